"""`bilm fit --unlabelled`: which texts without classes are learned from, what the user is told, and what is refused."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import run_script

from bilm import TextClassifier
from bilm.checkpoints import serialization
from bilm.checkpoints.model_format import load_bilm
from bilm.cli import fit as fit_command
from bilm.cli import hybrid, unlabelled
from bilm.cli.unlabelled import usable_rows
from bilm.runtime.errors import UserError
from bilm.text.corpus import Source, own_corpus
from bilm.text.encoded_corpus import encode, open_encoded

NOUNS = ("coach", "club", "moon", "rain", "water", "bank")
LABELLED = [
    (f"the {noun} of the {word}", topic) for noun in NOUNS for word, topic in (("goal", "sport"), ("lab", "it"))
]
UNLABELLED = [f"a {word} and a {noun}" for noun in NOUNS for word in ("goal zyx", "lab qwv")]
COLUMNS = ("--text-column", "said", "--label-column", "topic")


def write(path: Path, rows, header=("said", "topic")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def files(tmp_path):
    write(tmp_path / "news.csv", LABELLED)
    write(tmp_path / "test.csv", [("a goal of the team", "sport"), ("the lab was new", "it")])
    write(tmp_path / "more.csv", [(text,) for text in UNLABELLED], ["said"])
    return tmp_path


@pytest.fixture
def fit(files, trained_bilm):
    """Run the command on news.csv."""
    common = ("-m", "bilm", "fit", files / "news.csv", *COLUMNS, "--bilm", trained_bilm, "--output", files / "out")
    return lambda *more: run_script(*common, *more)


def weights(files) -> dict:
    content = serialization.load(files / "out/models/news/classifier_hybrid.pt", "classifier")
    return content["weights"] | {"words": content["config"]["words"]}


def test_the_classifier_knows_words_that_no_labelled_text_has(fit, files, trained_bilm):
    run = fit("--unlabelled", files / "more.csv", "--test", files / "test.csv")
    assert run.code == 0, run.err
    assert "12 texts of 2 classes; this takes about" in run.out
    assert "\nTexts without classes that are learned from, too: 12.\n" in run.out
    assert "Only hybrid has learned from texts without classes (12)." in run.out
    figures = json.loads((files / "out/results/news/fit.json").read_text())
    assert (figures["rows_trained"], figures["rows_unlabelled"]) == (12, 12)
    assert figures["validation"]["hybrid"]["rows"] == figures["validation"]["tfidf_svm"]["rows"] == 12
    classifier = TextClassifier.load(trained_bilm, files / "out/models/news/classifier_hybrid.pt")
    info = classifier.info
    assert info["rows_unlabelled"] == 12 and info["rows_trained"] == 12
    assert info["data"]["unlabelled"]["file"] == "more.csv" and "lsa" in info["features"]
    assert {"zyx", "qwv"} < set(weights(files)["words"])
    run = run_script(
        *("-m", "bilm", "predict", "--bilm", trained_bilm, "--explain"),
        *("--classifier", files / "out/models/news/classifier_hybrid.pt", "it was a goal"),
    )
    assert run.code == 0 and "sport" in run.out and "goal" in run.out


def test_without_the_option_nothing_is_recorded_of_it(fit, files):
    assert fit().code == 0
    figures = json.loads((files / "out/results/news/fit.json").read_text())
    assert "rows_unlabelled" not in figures
    content = serialization.load(files / "out/models/news/classifier_hybrid.pt", "classifier")
    assert not any("unlabelled" in key for key in (*content["info"], *content["info"]["settings"]))
    assert not any("lsa" in key for key in content["info"]["validation_accuracies"])


def test_a_classifier_on_other_texts_without_classes_is_not_replaced_unasked(fit, files):
    assert fit().code == 0
    path = files / "out/models/news/classifier_hybrid.pt"
    before = path.read_bytes()
    run = fit("--unlabelled", files / "more.csv")
    assert run.code == 2 and "unlabelled" in run.err and "--restart" in run.err
    assert path.read_bytes() == before
    assert fit("--unlabelled", files / "more.csv", "--restart").code == 0
    assert fit("--unlabelled", files / "more.csv").code == 0
    write(files / "more.csv", [("another text",)], ["said"])
    for more in (("--unlabelled", files / "more.csv"), ()):
        run = fit(*more)
        assert run.code == 2 and "unlabelled" in run.err and "--restart" in run.err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing.csv", None, "there is no file {}. Option: --unlabelled"),
        ("folder", None, "{} is a folder; name a file in it. Option: --unlabelled"),
        ("a.csv", "text\nrain\n", "{} has no column 'said'. Its first row has: 'text'. Options: --unlabelled, --unl"),
        ("a.csv", "", "{}, column 'said': no text has a word. Name a file with texts, or none. Option: --unlabelled"),
        ("a.csv", "said\n", "{}, column 'said': no text has a word."),
        ("a.csv", 'said\n" "\n\u200b\n', "{}, column 'said': no text has a word."),
        ("a.txt", "\n \n", "{}: no text has a word."),
        ("a.jsonl", '{"said": "rain"}\n{"said": 4}\n', "{}, line 2, column 'said': it is a number"),
        ("a.csv", "said\nThe lab was NEW.\nthe coach of the goal\n", "{}: all of its texts are also in the training"),
    ],
)
def test_mistakes_are_told_in_one_line_and_nothing_is_written(fit, files, name, content, message):
    (files / "folder").mkdir()
    path = files / name
    if content is not None:
        path.write_text(content, encoding="utf-8")
    run = fit("--unlabelled", path, "--test", files / "test.csv")
    assert run.code == 2 and len(run.err.strip().splitlines()) == 1 and message.format(path) in run.err, run.err
    assert not (files / "out/models").exists() and not (files / "out/results").exists()


def test_rows_without_a_class_are_pointed_to_the_option(fit, files):
    write(files / "news.csv", [*LABELLED, ("the rain fell", "")])
    run = fit()
    assert run.code == 2 and "row 14 (line 14), column 'topic': there is no class." in run.err
    assert "--unlabelled FILE" in run.err


def encoded_of(files, trained_bilm, more) -> tuple:
    """The rows of news.csv and of a file without classes, and the source of the latter."""
    vocabulary = load_bilm(trained_bilm).vocabulary.opened()
    found = unlabelled.open_unlabelled(str(more), None, "said", vocabulary.tokenizer)
    corpus = own_corpus(str(files / "news.csv"), None, "said", "topic")
    source: Source = corpus.source("train", None, found)
    encode(source, vocabulary, files / "encoded")
    return open_encoded(files / "encoded"), found


def texts_of(encoded) -> list[str]:
    return [" ".join(words) for words in encoded.texts.words(np.arange(len(encoded)))]


def test_texts_that_are_labelled_or_tested_on_are_left_out(files, trained_bilm):
    more = write(files / "some.csv", [("a moon",), ("The coach of the GOAL!",), ("It was new rain",)], ["said"])
    encoded, found = encoded_of(files, trained_bilm, more)
    test_rows = [(0, "it was new, rain")]
    found_rows = usable_rows(encoded, found, files / "test.csv", test_rows, 0)
    rows, note = found_rows.encoded, found_rows.note
    assert not found_rows.are_test_rows and texts_of(rows) == [*(text for text, _ in LABELLED), "a moon"]
    assert rows.labels.tolist() == [*encoded.labels[:12], -1] and (rows.keys == encoded.keys[:13]).all()
    assert "learned from, too: 1; left out, as they also are in the training file or in the test file: 2." in note
    # The user has named the test file itself.
    named = usable_rows(encoded, found, more, test_rows, 0)
    assert texts_of(named.encoded)[12:] == ["a moon", "it was new rain"] and named.are_test_rows
    assert named.identity != found_rows.identity
    assert "learned from, too: 2; they are the texts that are tested on; left out" in named.note
    assert named.note.endswith("in the training file: 1.")


def test_of_many_texts_a_random_choice_is_learned_from(files, trained_bilm, monkeypatch):
    monkeypatch.setattr(unlabelled, "AT_MOST", 5)
    encoded, found = encoded_of(files, trained_bilm, files / "more.csv")
    first, other, same = (usable_rows(encoded, found, None, [], seed) for seed in (0, 1, 0))
    assert len(first.encoded) == 17 and "learned from, too: 5, a random choice of 12." in first.note
    assert texts_of(first.encoded) == texts_of(same.encoded) != texts_of(other.encoded)
    assert first.identity == same.identity != other.identity
    assert set(texts_of(first.encoded)[12:]) < set(UNLABELLED)
    with pytest.raises(UserError, match="all of its texts are also in the training file"):
        usable_rows(*encoded_of(files, trained_bilm, files / "news.csv"), None, [], 0)


def test_texts_without_words_are_not_counted(files, trained_bilm):
    more = write(files / "some.csv", [("a moon",), ("___",), ("\u200b",), ("<b>",)], ["said"])
    found = usable_rows(*encoded_of(files, trained_bilm, more), None, [], 0)
    assert texts_of(found.encoded)[12:] == ["a moon", "_ _ _", "< b >"]


def test_other_test_rows_can_change_what_is_learned_from(fit, files):
    """So that the classifier would be another one; it is not replaced unasked."""
    assert fit("--unlabelled", files / "more.csv").code == 0
    assert fit("--unlabelled", files / "more.csv", "--test", files / "test.csv").code == 0, "no text in common"
    write(files / "tests.csv", [(UNLABELLED[0], "sport"), (UNLABELLED[1], "it")])
    run = fit("--unlabelled", files / "more.csv", "--test", files / "tests.csv")
    assert run.code == 2 and "it was trained on other unlabelled texts" in run.err
    run = fit("--unlabelled", files / "tests.csv", "--test", files / "tests.csv", "--restart")
    assert run.code == 0 and "texts without classes, which are those of --test (2)." in run.out
    assert json.loads((files / "out/results/news/fit.json").read_text())["unlabelled_are_test_rows"]


@pytest.mark.parametrize("columns", [("1", "topic"), ("1", "2")])
def test_a_column_by_number(files, trained_bilm, columns):
    """Beside the name of the other column it does not mean that there is no header; then the name is asked for."""
    has_header = columns[1] == "topic"
    if not has_header:
        (files / "news.csv").write_text("\n".join(f"{text},{topic}" for text, topic in LABELLED), encoding="utf-8")
    common = ["-m", "bilm", "fit", files / "news.csv", "--bilm", trained_bilm, "--output", files / "out"]
    common += ["--text-column", columns[0], "--label-column", columns[1], "--unlabelled", files / "more.csv"]
    if has_header:
        run = run_script(*common)
        assert run.code == 2 and "more.csv has columns; name the one with the texts." in run.err
        assert "--unlabelled-column" in run.err
    run = run_script(*common, "--unlabelled-column", "said")
    assert run.code == 0 and "learned from, too: 12." in run.out, run.err
    without = [x for x in common if x not in ("--unlabelled", files / "more.csv")]
    run = run_script(*without, "--unlabelled-column", "said")
    assert run.code == 2 and "--unlabelled-column is for --unlabelled." in run.err


def test_the_estimate_of_the_duration_includes_texts_without_classes(files, trained_bilm, monkeypatch):
    encoded, _ = encoded_of(files, trained_bilm, files / "more.csv")
    tried = []
    monkeypatch.setattr(hybrid, "find_clusters", lambda run, encoder, encoded, rows: None)
    monkeypatch.setattr(
        hybrid, "prepare_trainer", lambda *args: tried.append(args[4].tolist()) or SimpleNamespace(labels=np.zeros(2))
    )
    for at_least, rows in ((1, [0, 10, 12, 22]), (2, [0, 6, 12, 22]), (3, [0, 4, 8, 12, 20]), (30, [*range(24)])):
        monkeypatch.setattr(fit_command, "TRIAL_AT_LEAST", at_least)
        assert fit_command.estimate_seconds(None, load_bilm(trained_bilm), encoded, 2, 5) < 1
        assert tried.pop() == rows
