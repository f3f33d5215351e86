"""`bilm fit`: from a file of labelled texts to a classifier and a comparison with TF-IDF."""

import csv
import json
import shlex
import shutil

import numpy as np
import pytest
from conftest import run_script

from bilm import TextClassifier
from bilm.checkpoints import serialization
from bilm.checkpoints.model_format import finished_settings
from bilm.cli.fit import verdict
from bilm.metrics import mcnemar

NOUNS = ("coach", "club", "moon", "rain", "water", "bank", "stock", "market")
SPORTS, SCIENCE = ("goal", "match", "team"), ("orbit", "probe", "lab")


def write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("said", "topic"), *rows])


@pytest.fixture
def files(tmp_path):
    """24 texts to train on and 8 to test with; one word of each tells its class."""
    rows = [
        (f"the {noun} of the {word} {i}", topic)
        for i, noun in enumerate(NOUNS)
        for words, topic in ((SPORTS, "sport"), (SCIENCE, "science"))
        for word in words[:2]
    ]
    rows[0] = (f"{rows[0][0]} {'and so on ' * 45}", rows[0][1])  # 140 words
    write(tmp_path / "news.csv", rows[:24])
    write(tmp_path / "test.csv", rows[24:])
    return tmp_path


COLUMNS = ("--text-column", "said", "--label-column", "topic")


def test_test_texts_that_are_in_the_training_file_are_counted(files, trained_bilm):
    with (files / "test.csv").open("a", encoding="utf-8") as file:
        file.writelines((files / "news.csv").read_text(encoding="utf-8").splitlines(keepends=True)[2:5])
    common = ("--bilm", trained_bilm, "--output", files / "out")
    run = run_script("-m", "bilm", "fit", files / "news.csv", *COLUMNS, "--test", files / "test.csv", *common)
    assert run.code == 0 and "3 of the 11 texts to test on are in the training file, too" in run.out, run.err


def test_a_file_becomes_a_classifier_that_predict_uses(files, trained_bilm):
    common = ("--bilm", trained_bilm, "--output", files / "out")
    run = run_script("-m", "bilm", "fit", files / "news.csv", *COLUMNS, "--test", files / "test.csv", *common)
    assert run.code == 0, run.err
    assert "1 of 24 texts have more than 128 words" in run.out
    assert "24 texts of 2 classes; this takes about" in run.out and "On the 8 test rows" in run.out
    assert "in the training file" not in run.out and "p = 1 (McNemar's test)" in run.out
    figures = json.loads((files / "out/results/news/fit.json").read_text())
    assert figures["validation_splits"] == 5 and figures["rows_trained"] == 24 and figures["commit"]
    for split, rows in (("validation", 24), ("test", 8)):
        assert [figures[split][name]["rows"] for name in ("hybrid", "tfidf_svm")] == [rows, rows]
    assert figures["test"]["hybrid"]["accuracy"] == 1.0
    command = run.out.strip().splitlines()[-1]
    run = run_script(*shlex.split(command)[1:-1], "the people of the goal")
    assert run.code == 0 and "sport" in run.out.splitlines()[1]
    path = files / "out/models/news/classifier_hybrid.pt"
    command = ("-m", "bilm", "evaluate", files / "news.csv", "--text-column", 1, "--label-column", "topic")
    run = run_script(*command, "--bilm", trained_bilm, "--classifier", path)
    assert run.code == 0 and "was trained on rows of this file" in run.err
    classifier = TextClassifier.load(trained_bilm, path)
    assert classifier.predict(["an orbit", "a match"]) == ["science", "sport"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name one file"),
        (("news.csv",), "name the columns"),
        (("news.csv", "--text-column", "said", "--label-column", "subject"), "subject"),
        (("nothing.csv", *COLUMNS), "there is no file"),
        (("news.csv", *COLUMNS, "--test", "other.csv"), "money"),
        (("single.csv", *COLUMNS), "single distinct text"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(files, trained_bilm, arguments, message):
    write(files / "other.csv", [("a goal", "sport"), ("a share", "money")])
    write(files / "single.csv", [*[(f"goal {i}", "sport") for i in range(9)], ("a share", "money")])
    arguments = [files / a if a.endswith(".csv") else a for a in arguments]
    run = run_script("-m", "bilm", "fit", *arguments, "--bilm", trained_bilm, "--output", files / "out")
    assert run.code == 2 and message in run.err and "Traceback" not in run.err
    assert "this takes about" not in run.out and not (files / "out/models").exists()


def test_a_classifier_on_other_rows_is_not_replaced_unasked(files, trained_bilm):
    common = (*COLUMNS, "--bilm", trained_bilm, "--output", files / "out")
    assert run_script("-m", "bilm", "fit", files / "news.csv", *common).code == 0
    path = files / "out/models/news/classifier_hybrid.pt"
    before = path.read_bytes()
    shutil.move(files / "test.csv", files / "news.csv")
    run = run_script("-m", "bilm", "fit", files / "news.csv", *common)
    assert run.code == 2 and "trained on other rows" in run.err and "--restart" in run.err
    assert path.read_bytes() == before
    run = run_script("-m", "bilm", "fit", files / "news.csv", *common, "--restart")
    assert run.code == 0 and path.read_bytes() != before, run.err


def test_classification_knows_its_classifier_and_the_other_way_round(files, trained_bilm):
    """The same texts, language model and precision: the same run, whichever command it was."""
    common = (*COLUMNS, "--bilm", trained_bilm, "--output", files / "out", "--precision", "fp32")
    fit = ("-m", "bilm", "fit", files / "news.csv", *common)
    classification = ("classification.py", "--train", files / "news.csv", *common, "--mode", "hybrid", "--epochs", 5)
    path = files / "out/models/news/classifier_hybrid.pt"
    assert run_script(*fit).code == 0
    by_fit = serialization.load(path, "classifier")
    run = run_script(*classification, "--resume")
    assert run.code == 0 and "skipped" in run.out, run.err
    run = run_script(*classification)
    assert run.code == 0 and "skipped" not in run.out, run.err
    by_classification = serialization.load(path, "classifier")
    assert by_classification["id"] == by_fit["id"]
    assert by_classification["info"]["settings"] == by_fit["info"]["settings"]
    assert run_script(*fit).code == 0


@pytest.mark.parametrize("content", [b"", b"my notes", b"PK\x03\x04 cut off"])
def test_a_file_that_cannot_be_read_is_not_replaced_unasked(files, trained_bilm, content):
    path = files / "out/models/news/classifier_hybrid.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    command = ("-m", "bilm", "fit", files / "news.csv", *COLUMNS, "--bilm", trained_bilm, "--output", files / "out")
    run = run_script(*command)
    assert run.code == 2 and "classifier_hybrid.pt exists, but" in run.err and "--restart" in run.err, run.err
    assert run.err.count("\n") == 1 and "this takes about" not in run.out and path.read_bytes() == content
    path.unlink()
    path.mkdir()
    for restart in ([], ["--restart"]):
        run = run_script(*command, *restart)
        assert run.code == 2 and "classifier_hybrid.pt is a folder" in run.err and "this takes" not in run.out, run.err


def test_restart_replaces_a_file_that_cannot_be_read(files, trained_bilm):
    path = files / "out/models/news/classifier_hybrid.pt"
    path.parent.mkdir(parents=True)
    path.write_text("my notes")
    common = (*COLUMNS, "--bilm", trained_bilm, "--output", files / "out")
    run = run_script("-m", "bilm", "fit", files / "news.csv", *common, "--restart")
    assert run.code == 0 and finished_settings(path, "classifier")["mode"] == "hybrid", run.err


def test_the_best_classifier_of_another_language_model_stays(files, trained_bilm):
    """In the folder of a language model, classifier.pt is the best of its classifiers."""
    folder = files / "out/models/news"
    shutil.copytree(trained_bilm.parent, folder)
    before = (folder / "classifier.pt").read_bytes()
    run = run_script("-m", "bilm", "fit", files / "news.csv", *COLUMNS, "--output", files / "out")
    assert run.code == 0 and (folder / "classifier_hybrid.pt").exists(), run.err
    assert (folder / "classifier.pt").read_bytes() == before


def test_a_damaged_language_model_in_the_folder_is_told_before_training(files):
    folder = files / "out/models/news"
    folder.mkdir(parents=True)
    (folder / "bilstm.pt").write_bytes(b"damaged")
    run = run_script("-m", "bilm", "fit", files / "news.csv", *COLUMNS, "--output", files / "out")
    assert run.code == 2 and "bilstm.pt" in run.err and run.err.count("\n") == 1, run.err
    assert "this takes about" not in run.out and not (folder / "classifier_hybrid.pt").exists()


@pytest.mark.parametrize(
    ("only_hybrid", "only_tfidf", "expected"),
    [
        *((30, 5, "hybrid classifier is better"), (5, 30, "TF-IDF alone is better"), (9, 8, "no difference")),
        # The interval does not contain 0, but these few rows may be chance: p = 0.125.
        *((4, 0, "no difference"), (0, 4, "no difference")),
    ],
)
def test_the_verdict_follows_the_interval(only_hybrid, only_tfidf, expected):
    actual = np.zeros(200, dtype=np.int64)
    hybrid, tfidf = actual.copy(), actual.copy()
    tfidf[:only_hybrid], hybrid[only_hybrid : only_hybrid + only_tfidf] = 1, 1
    text = verdict({"validation": {"hybrid": {"rows": 200}, "paired": mcnemar(actual, hybrid, tfidf)}})
    assert expected in text and f"{(only_hybrid - only_tfidf) / 2:+.1f} points" in text


def test_texts_with_little_in_common_are_learned_from(tmp_path, trained_bilm):
    """Every tenth of them, by which the duration could be estimated, has no piece of a word in common with another."""
    rows = [(chr(97 + i) * 3, "ab"[i // 10 % 2]) for i in range(22)] + [(f"the {c * 3}", c) for c in "abab"]
    write(tmp_path / "few.csv", rows)
    run = run_script("-m", "bilm", "fit", tmp_path / "few.csv", *COLUMNS, "--bilm", trained_bilm, "--output", tmp_path)
    assert run.code == 0, run.err


def test_a_best_classifier_that_cannot_be_read_is_not_replaced_unasked(files, trained_bilm):
    best = files / "out/models/news/classifier.pt"
    best.parent.mkdir(parents=True)
    best.write_bytes(b"of a newer version")
    command = ("-m", "bilm", "fit", files / "news.csv", *COLUMNS, "--bilm", trained_bilm, "--output", files / "out")
    run = run_script(*command)
    assert run.code == 2 and "--restart" in run.err and "this takes about" not in run.out
    assert best.read_bytes() == b"of a newer version"
    best.unlink()
    best.mkdir()
    run = run_script(*command, "--restart")
    assert run.code == 2 and "is a folder" in run.err and "this takes about" not in run.out
    best.rmdir()
    best.write_bytes(b"of a newer version")
    assert run_script(*command, "--restart").code == 0 and best.stat().st_size > 1000


def test_nor_is_the_file_that_an_earlier_best_classifier_is_renamed_to(files, trained_bilm):
    models = files / "out/models/news"
    models.mkdir(parents=True)
    shutil.copy(trained_bilm.parent / "classifier_frozen.pt", models / "classifier.pt")
    (models / "classifier_frozen.pt").write_bytes(b"of a newer version")
    command = ("-m", "bilm", "fit", files / "news.csv", *COLUMNS, "--bilm", trained_bilm, "--output", files / "out")
    run = run_script(*command)
    assert run.code == 2 and "classifier_frozen.pt" in run.err and "--restart" in run.err
    assert (models / "classifier_frozen.pt").read_bytes() == b"of a newer version"
