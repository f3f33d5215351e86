"""A user's own texts through all scripts: any form of file, any classes, more text, another model to start from."""

import csv
import json
import re
import shlex
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SAMPLE, TINY, run_script

import ELMO
from bilm import ELMo, TextClassifier
from bilm.checkpoints.classifier_files import find_classifiers
from bilm.checkpoints.growth import grow
from bilm.checkpoints.model_format import load_bilm
from bilm.cli.predict import Writer
from bilm.config import PRETRAINING, BiLMConfig, FitConfig, VocabularyConfig
from bilm.evaluation.figures import draw_confusion_matrix
from bilm.evaluation.tables import classifier_table
from bilm.metrics import classification_figures
from bilm.runtime.errors import UserError
from bilm.text.ag_news import read_ag_news
from bilm.text.batching import collate
from bilm.text.corpus import find_unlabelled, own_corpus
from bilm.text.custom_dataset import NO_LABEL, Columns, read_classes, read_custom_dataset
from bilm.text.readers import Table
from bilm.text.split import split_validation
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import SPECIALS, Vocabulary

# Names that sort otherwise than they come, one with a comma and a blank, one that is not ASCII.
NAMES = ("weather, mild", "crime", "Ökonomie", "12", "9")
ROWS = [(NAMES[i % 5], f"text {i} of kind {i % 5}, said {'twice ' * (i % 3)}") for i in range(60)]


def write(path, rows=ROWS):
    """In the form that the name ends in, with the columns kind and said, in another order in each."""
    kind = path.suffix
    if kind in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file, delimiter="," if kind == ".csv" else "\t")
            out.writerows([("said", "number", "kind"), *((text, i, name) for i, (name, text) in enumerate(rows))])
    elif kind == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        import pyarrow

        table = {"kind": [name for name, _ in rows], "said": [text for _, text in rows]}
        parquet.write_table(pyarrow.table(table), path, row_group_size=7)
    else:
        lines = (json.dumps({"kind": name, "said": text}) for name, text in rows)
        path.write_text("\n\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "ndjson", "parquet"])
def test_every_form_gives_the_same_rows(tmp_path, kind):
    path = write(tmp_path / f"mine.{kind}")
    classes = read_classes(path, Columns("said", "kind"))
    assert classes == tuple(sorted(NAMES))
    expected = [(classes.index(name), text) for name, text in ROWS]
    assert list(read_custom_dataset(path, Columns("said", "kind"), classes)) == expected
    assert list(read_custom_dataset(path, Columns("said", None), ())) == [(NO_LABEL, text) for _, text in ROWS]
    some = list(read_custom_dataset(path, Columns("said", "kind"), classes, limit=7))
    assert len(some) == 7 and some[0] == expected[0] and some[-1] == expected[-1]


def test_numbered_columns_and_numbers_for_classes(tmp_path):
    (tmp_path / "a.csv").write_text("10,one two\n9,three\n10,four\n")
    assert read_classes(tmp_path / "a.csv", Columns("2", "1")) == ("9", "10"), "as numbers, not as strings"
    assert next(read_custom_dataset(tmp_path / "a.csv", Columns("2", "1"), ("9", "10"))) == (1, "one two")
    (tmp_path / "a.jsonl").write_text('{"a": "x", "b": 4.0}\n{"a": "y", "b": 4}\n{"a": "z", "b": "h \\ud83d"}\n')
    assert read_classes(tmp_path / "a.jsonl", Columns("a", "b")) == ("4", "4.0", "h ?")
    no_class = dict.fromkeys(("NaN", "null", '" "'), "there is no class") | {
        "[1]": "it is a list, which names no class"
    }
    for cell, message in no_class.items():
        (tmp_path / "a.jsonl").write_text(f'{{"a": "x", "b": {cell}}}')
        with pytest.raises(UserError, match=f"line 1, column 'b': {message}"):
            read_classes(tmp_path / "a.jsonl", Columns("a", "b"))
    # A name and a number: there is a header.
    (tmp_path / "b.csv").write_text("10,said\n9,one\n8,two\n")
    assert read_classes(tmp_path / "b.csv", Columns("said", "1")) == ("8", "9")


def test_a_column_that_the_first_object_lacks_is_told(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "topic": "a"}\n{"text": "y"}\n')
    with pytest.raises(UserError, match=r"has no column 'label'\. Its first row has: 'text', 'topic'"):
        read_classes(tmp_path / "a.jsonl", Columns("text", "label"))
    with pytest.raises(
        UserError,
        match=r"has no column '1'\. Columns of such a file have names, not numbers\. Its first row has",
    ):
        read_classes(tmp_path / "a.jsonl", Columns("1", "2"))
    with pytest.raises(UserError, match=r"line 2, column 'topic': there is no class"):
        read_classes(tmp_path / "a.jsonl", Columns("text", "topic"))


@pytest.mark.parametrize("nothing", ["\u200b", "\u00ad", "\ufeff \u200e", "\u00a0"])
def test_what_shows_nothing_is_empty(tmp_path, nothing):
    (tmp_path / "a.csv").write_text(f"kind,said\na,one\nb,{nothing}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"row 3 \(line 3\), column 'said': it is empty"):
        list(read_custom_dataset(tmp_path / "a.csv", Columns("said", "kind"), ("a", "b")))
    (tmp_path / "a.csv").write_text(f"kind,said\na,one\n{nothing},two\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"row 3 \(line 3\), column 'kind': there is no class"):
        read_classes(tmp_path / "a.csv", Columns("said", "kind"))
    (tmp_path / "a.txt").write_text(f"one\n{nothing}\n-\n", encoding="utf-8")
    rows = list(read_custom_dataset(tmp_path / "a.txt", Columns(None, None), ()))
    assert rows == [(NO_LABEL, "one"), (NO_LABEL, "-")]


def test_classes_that_look_alike_are_one(tmp_path):
    names = ["b", "b\u200b", " b\u00a0", "caf\u00e9 noir", "cafe\u0301\u2009 noir"]
    path = write(tmp_path / "a.jsonl", [(name, "one") for name in names])
    classes = read_classes(path, Columns("said", "kind"))
    assert classes == ("b", "caf\u00e9 noir")
    assert [label for label, _ in read_custom_dataset(path, Columns("said", "kind"), classes)] == [0, 0, 0, 1, 1]


def test_lines_are_texts_and_blank_ones_are_not(tmp_path):
    (tmp_path / "a.txt").write_text("one, two\n\n  \n😀\n", encoding="utf-8")
    assert list(read_custom_dataset(tmp_path / "a.txt", Columns(None, None), ())) == [
        (NO_LABEL, "one, two"),
        (NO_LABEL, "😀"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("kind,said\na,one\nb,\n", r"row 3 \(line 3\), column 'said': it is empty"),
        ("kind,said\na,one\n ,two\n", r"row 3 \(line 3\), column 'kind': there is no class"),
        (
            "kind,said\na,one\nc,two\n",
            r"row 3 \(line 3\), column 'kind': 'c' is not among the classes trained on: a, b",
        ),
        ("kind,said\na\n", r"row 2 \(line 2\): 1 columns where the first row has 2"),
        ("kind,said\na,one, two\n", r"row 2 \(line 2\): 3 columns where the first row has 2: a comma without quotes"),
        ("kind,said,said\na,one,two\n", "has 2 columns 'said'"),
        ("kind,text\na,one\n", "has no column 'said'. Its first row has: 'kind', 'text'"),
        ("kind,said\n", "has no rows"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, content, message):
    (tmp_path / "mine.csv").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        list(read_custom_dataset(tmp_path / "mine.csv", Columns("said", "kind"), ("a", "b")))
    assert "mine.csv" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("label", "meant"), [("A", "a"), ("NEWS", "News"), ("1.0", "1"), ("2.0", "2.0")])
def test_a_class_of_another_spelling_is_recognised(tmp_path, label, meant):
    classes = ("a", "News", "1")
    (tmp_path / "a.csv").write_text(f"kind,said\n{label},one\n")
    with pytest.raises(UserError, match="not among the classes") as raised:
        list(read_custom_dataset(tmp_path / "a.csv", Columns("said", "kind"), classes))
    assert (f"Did you mean {meant!r}?" in str(raised.value)) == (meant in classes)


def test_one_column_cannot_hold_texts_and_classes(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"said": "one"}\n')
    with pytest.raises(UserError, match="'said' and 'said' are one column"):
        read_classes(tmp_path / "a.jsonl", Columns("said", "said"))


def test_columns_that_hold_no_classes_are_told(tmp_path):
    (tmp_path / "a.csv").write_text("kind,said\n" + "".join(f"a,text {i}\n" for i in range(300)))
    with pytest.raises(UserError, match="all rows are of class 'a'"):
        read_classes(tmp_path / "a.csv", Columns("said", "kind"))
    with pytest.raises(UserError, match=r"300 different values in 300 rows\. Is it the column of the classes"):
        read_classes(tmp_path / "a.csv", Columns("kind", "said"))


def test_a_parquet_file_that_is_none_is_one_line(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match="cannot be read as Parquet") as error:
        list(Table(tmp_path / "a.parquet", ["x"]).rows())
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"has no column 'x'\. Its first row has: 'kind', 'said'"):
        list(Table(write(tmp_path / "b.parquet"), ["x"]).rows())


def test_a_corpus_of_ones_own_is_never_taken_for_ag_news(tmp_path):
    for name, expected in (("reviews", "reviews"), ("ag_news", "own-ag_news"), ("sample", "own-sample")):
        path = write(tmp_path / f"{name}.csv")
        corpus = own_corpus(str(path), None, "said", "kind")
        assert corpus.name == expected and corpus.splits == ("train",)
    (tmp_path / "talk").mkdir()
    assert own_corpus(str(write(tmp_path / "talk/train.csv")), None, "said", None).name == "talk"
    one, other = (own_corpus(str(path), None, "said", label).source("train", None) for label in ("kind", None))
    assert one.sha256 == other.sha256 and one.identity != other.identity


def test_unlabelled_rows_are_not_validated_on_unless_all_are():
    labels = np.array([0, 1] * 20 + [NO_LABEL] * 40)
    keys = np.array([hash(str(i)) % 2**63 for i in range(80)], dtype=np.uint64)
    keys[40] = keys[split_validation(labels[:40], keys[:40])[1][0]]  # a copy of a text for validation
    training, validation = split_validation(labels, keys)
    assert set(validation) == {*split_validation(labels[:40], keys[:40])[1], 40}
    assert sorted([*training, *validation]) == list(range(80))
    assert len(split_validation(np.full(80, NO_LABEL), keys)[1]) >= 4


def test_a_vocabulary_that_goes_on_keeps_the_ids_of_the_other():
    previous = [*SPECIALS, "stocks", "fell"]
    counts = {"fell": 9, "yarn": 3, "wool": 5, "rare": 1}
    result = Vocabulary.from_counts(counts, Tokenizer(), VocabularyConfig(min_count=2), previous)
    assert result.words == [*previous, "wool", "yarn"]
    small = VocabularyConfig(min_count=2, max_words=5)
    assert Vocabulary.from_counts(counts, Tokenizer(), small, previous).words == previous, (
        "no word is lost to the limit"
    )


@pytest.fixture(scope="module")
def sample_bilm(trained):
    return trained[0] / "models/sample/bilstm.pt"


@pytest.mark.parametrize("more", [0, 300, 2500])
def test_a_model_that_goes_on_says_what_the_other_said(sample_bilm, texts, more):
    """Of words that both know: the same states, and the same odds between any two of the words."""
    start = load_bilm(sample_bilm)
    size = len(start.vocabulary)
    model = grow(start, size + more, replace(start.model.config, dropout=0.5)).eval()
    assert model.config.dropout == 0.5 and model.vocabulary_size == size + more
    longer = Vocabulary([*start.vocabulary.words, *(f"new{i}" for i in range(more))], start.vocabulary.tokenizer)
    batch = collate(longer.encode(texts), np.arange(len(texts)))
    with torch.no_grad():
        both = [m.lm_targets(batch)["forward"].states for m in (start.model, model)]
        assert torch.equal(*both)
        odds = [m.softmax.log_probs(states)[:, :size] for m, states in zip((start.model, model), both, strict=True)]
        last = start.model.softmax.edges[-2] if len(start.model.softmax.edges) > 1 else 0
        for part in (slice(0, last), slice(last, size)):
            relative = [o[:, part] - o[:, part][:, :1] for o in odds]
            torch.testing.assert_close(*relative)


def own_files(folder):
    """The sample's rows under other names, a class by its word, and some texts without a label."""
    words = ("world affairs", "sport", "money", "science")
    files = {}
    for split in ("train", "test"):
        rows = [(words[label], text) for label, text in read_ag_news(SAMPLE / f"{split}.csv", 120)]
        files[split] = write(folder / f"news {split}.tsv", rows)
    more = 'wool\n"Yarn and wool and yarn and wool."\n\n"Wool of sheep, yarn of wool, yarn."\n" "\n'
    (folder / "more.csv").write_text(more)
    return files, ["--text-column", "said", "--label-column", "kind", "--output", folder / "out"]


def test_all_scripts_on_ones_own_texts(tmp_path, sample_bilm):
    files, common = own_files(tmp_path)
    data = ["--train", files["train"], "--test", files["test"], *common]
    tiny = ["--min-count", 2, "--batch-tokens", 512, "--precision", "fp32", "--device", "cpu"]
    run = run_script(
        "ELMO.py",
        *data,
        *tiny,
        *("--epochs", 1, "--start-from", sample_bilm, "--hidden", 32),
        *("--unlabelled", tmp_path / "more.csv", "--unlabelled-column", "wool"),
    )
    assert run.code == 0, run.err
    path = tmp_path / "out/models/news train/bilstm.pt"
    assert "new words are added." in run.out and "--label-column kind" in run.out
    elmo, start = ELMo.load(path), load_bilm(sample_bilm)
    words = elmo.vocabulary.words
    assert elmo.model.config.hidden == 32 and start.model.config.hidden is None
    assert words[: len(start.vocabulary)] == start.vocabulary.words and {"yarn", "wool"} <= set(words)
    messages = elmo.info["data"]
    assert messages["file"] == "news train.tsv" and messages["unlabelled"]["file"] == "more.csv"
    assert messages["start"] == {"hash": start.hash, **{k: start.info[k] for k in ("corpus", "rows_trained", "data")}}
    assert str(tmp_path) not in json.dumps(messages), "names of folders are nobody's business"

    run = run_script("classification.py", *data, "--epochs", 2, "--hidden", 16, "--mode", "trainable")
    assert f"--test {shlex.quote(str(files['test']))}" in run.out.split("Next: ")[1] and "FILE" not in run.out
    assert run.code == 0 and "pretrained on other rows" not in run.out, run.err + run.out
    run = run_script("evaluate.py", *data, "--split", "all")
    assert run.code == 0 and "world affairs" in run.out, run.err
    summary = json.loads((tmp_path / "out/results/news train/summary.json").read_text())
    assert [c["class"] for c in summary["classifiers"]["trainable"]["test"]["per_class"]] == [
        "money",
        "science",
        "sport",
        "world affairs",
    ]
    classifier = TextClassifier.load(path)
    assert classifier.classes == ["money", "science", "sport", "world affairs"]
    assert classifier.info["data"]["label"] == "kind"
    labels, texts = zip(*read_custom_dataset(files["test"], Columns("said", "kind"), classifier.classes), strict=True)
    result = [classifier.classes.index(name) for name in classifier.predict(texts)]
    accuracy = summary["classifiers"]["trainable"]["test"]["accuracy"]
    assert np.mean(np.array(result) == labels) == pytest.approx(accuracy)
    run = run_script("-m bilm predict", "--bilm", path, "Wool.")
    assert run.code == 0 and "world affairs" in run.out

    # Rows that have moved from one file to the other.
    trained_on = files["train"].read_bytes()
    with files["train"].open("ab") as file:
        file.write(files["test"].read_bytes().splitlines(keepends=True)[-1])
    run = run_script("evaluate.py", *data)
    assert run.code == 0 and "Note: classifier trainable was trained on other rows than" in run.err, run.err
    files["train"].write_bytes(trained_on)

    # Without a file to test on, what is known of it stays.
    predictions = tmp_path / "out/results/news train/predictions.json"
    before = json.loads(predictions.read_text())
    run = run_script("evaluate.py", "--train", files["train"], *common, "--split", "train")
    after = json.loads((tmp_path / "out/results/news train/summary.json").read_text())
    assert run.code == 0 and after["classifiers"]["trainable"]["test"] == summary["classifiers"]["trainable"]["test"]
    assert after["test_csv"] == summary["test_csv"] and json.loads(predictions.read_text()) == before
    # Other test rows: what is known of the earlier ones is kept beside.
    names = [classifier.classes[label] for label in labels[:2]]
    others = write(tmp_path / "out/others.jsonl", list(zip(names, texts, strict=False)))
    run = run_script("evaluate.py", "--train", files["train"], "--test", others, *common)
    kept = tmp_path / "out/results/news train" / f"test-{summary['test_csv'][:8]}"
    assert run.code == 0 and f"of other test rows; they are now in {kept}" in run.err, run.err
    assert json.loads((kept / "predictions.json").read_text()) == before
    assert json.loads((kept / "summary.json").read_text())["classifiers"] == after["classifiers"]
    # Other rows under the same name.
    other = write(tmp_path / "out/news train.tsv", ROWS)
    run = run_script("ELMO.py", "--train", other, *common, *tiny)
    assert run.code == 2 and "it was trained on other rows" in run.err
    assert load_bilm(path).hash == elmo.hash
    # Without a file to test on; with a class there that was not trained on; with other classes than the classifier's.
    run = run_script("evaluate.py", "--train", files["train"], *common)
    assert run.code == 2 and "there are no test rows: name their file. Option: --test" in run.err
    write(files["test"], [("weather", "Rain fell."), ("sport", "They won.")])
    run = run_script("evaluate.py", *data)
    assert run.code == 2 and "row 2 (line 2), column 'kind': 'weather' is not among the classes trained on" in run.err
    assert run.err.count("\n") == 1
    write(files["train"], [("a", f"text {i}") if i % 2 else ("b", f"word {i}") for i in range(40)])
    run = run_script("evaluate.py", "--split", "train", "--train", files["train"], *common)
    assert run.code == 2 and "was trained on other classes: " in run.err


def test_pretraining_without_labels(tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"{text}\n" for _, text in read_ag_news(SAMPLE / "train.csv", 60)), encoding="utf-8")
    common = ["--train", lines, "--output", tmp_path / "out"]
    run = run_script("ELMO.py", *common, *TINY, "--epochs", 1, "--max-tokens", 12)
    assert run.code == 0 and "python -m bilm vectors" in run.out, run.err
    assert "Note: 60 of 60 texts have more than 12 words" in run.out and run.out.count("Note:") == 1, run.out
    assert ELMo.load(tmp_path / "out/models/lines/bilstm.pt").info["rows_trained"] == 50
    run = run_script("classification.py", *common)
    assert run.code == 2 and "name the column of the classes: --label-column NAME" in run.err
    run = run_script("evaluate.py", *common, "--test", lines)
    assert run.code == 2 and "the test file is the training file" in run.err
    (tmp_path / "others.txt").write_text("Stocks fell.\nRain fell.\n")
    run = run_script("evaluate.py", *common, "--test", tmp_path / "others.txt")
    assert run.code == 0 and "perplexity" in run.out, run.err


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--train", "nowhere.csv"], "there is no file nowhere.csv. Option: --train"),
        (["--train", SAMPLE / "train.csv"], "has columns; name the one with the texts. Option: --text-column"),
        (["--train", SAMPLE / "train.csv", "--data", SAMPLE], "--train and --data exclude each other"),
        (["--test", "x.csv"], "--test is for --train"),
        (["--label-column", "x"], "--label-column is for --train"),
        (["--text-column", "x"], "--text-column is for --train"),
        (
            ["--data", SAMPLE, "--unlabelled", SAMPLE / "train.csv"],
            "name the one with the texts. Option: --unlabelled-column",
        ),
        (["--unlabelled-column", "x"], "--unlabelled-column is for --unlabelled"),
        (["--train", "README.md", "--label-column", "x"], "README.md is read line by line; only files in"),
        (["--start-from", "models/bilstm.pt", "--init-embeddings", "word2vec"], "exclude each other"),
        (["--start-from", "nowhere.pt"], "there is no file nowhere.pt"),
    ],
)
def test_options_that_do_not_fit_are_one_line(tmp_path, arguments, messages):
    run = run_script("ELMO.py", *arguments, "--output", tmp_path / "out")
    assert run.code == 2 and messages in run.err and run.err.count("\n") == 1, run.err
    assert not (tmp_path / "out").exists()


def test_another_shape_than_that_of_the_start_is_refused(tmp_path, sample_bilm):
    for arguments, messages in (
        (["--width", 8], "--width 8: the model of --start-from has 24. Omit"),
        (["--max-tokens", 5], "has 128"),
        (["--hidden", 8], "have 24 units; 8 are fewer. Option: --hidden"),
    ):
        run = run_script("ELMO.py", "--data", SAMPLE, "--output", tmp_path, "--start-from", sample_bilm, *arguments)
        assert run.code == 2 and messages in run.err, run.err


def test_units_of_the_lstms_of_a_start(sample_bilm):
    """Kept, or more; LSTMs narrower than their layers may not become as wide, where they have no projection."""
    base = load_bilm(sample_bilm)
    for before, option, after in ((None, None, None), (None, 24, None), (None, 32, 32), (12, None, 12), (12, 16, 16)):
        base.model.config = replace(base.model.config, hidden=before)
        options = ELMO.Options(model=BiLMConfig(hidden=option))
        assert ELMO.adapt_options(options, base).model == replace(base.model.config, hidden=after, dropout=0.2)
    with pytest.raises(UserError, match=r"LSTMs as wide as the layers \(24\)"):
        ELMO.adapt_options(ELMO.Options(model=BiLMConfig(hidden=24)), base)


def test_the_bundled_model_is_continued_at_a_lower_rate_than_presets_have(sample_bilm):
    """Unless the user names a rate, or the model."""
    base, usual = load_bilm(sample_bilm), FitConfig.learning_rate
    assert all("learning_rate" not in preset for preset in PRETRAINING.values())
    for fit, expected in ((FitConfig(), 2e-3), (FitConfig(learning_rate=5e-3), 5e-3)):
        assert ELMO.adapt_options(ELMO.Options(fit=fit), base).fit.learning_rate == expected
    named = ELMO.StartOptions(start_from="models/bilstm.pt")
    assert ELMO.adapt_options(ELMO.Options(fit=FitConfig(), start=named), base).fit.learning_rate == usual


def test_unlabelled_needs_a_column_where_there_are_some(tmp_path):
    path = str(write(tmp_path / "a.csv"))
    with pytest.raises(UserError, match="name the one with the texts"):
        find_unlabelled(path, None, None)
    one, other = find_unlabelled(path, "said", "kind"), find_unlabelled(path, None, "kind")
    assert (one.column, other.column) == ("said", "kind") and one.identity != other.identity
    (tmp_path / "a.txt").write_text("one\n")
    assert find_unlabelled(str(tmp_path / "a.txt"), None, "said").column is None
    with pytest.raises(UserError, match="is read line by line"):
        find_unlabelled(str(tmp_path / "a.txt"), "said", None)


def test_many_classes_have_room(tmp_path, capsys):
    """150 of them: a table of the likeliest, the most frequent confusions, a picture of a size that can be opened."""
    names = [f"class number {i}" for i in range(149)] + ["$$ \x1b[31m 149"]
    actual = np.arange(150).repeat(3)
    predicted = actual.copy()
    predicted[:2], predicted[3] = 5, 7
    figures = classification_figures(actual, predicted, names)
    text = classifier_table("trainable", figures)
    assert re.search(r"\nclass number 0 +class number 5 +2\n", text) and "true \\ predicted" not in text
    draw_confusion_matrix(tmp_path / "x.png", figures["confusion_matrix"], names, names, "many")
    assert (tmp_path / "x.png").stat().st_size < 2**21
    write_answer = Writer("table", names)
    write_answer("Rain fell.", np.eye(150)[149])
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["class", "probability", "text"] and line.startswith("$$ �[31m 149  ")
    assert line.endswith("1.0000  Rain fell.") and header.index("text") == line.index("Rain")


def test_classifier_pt_is_of_the_rows_that_were_learned_last(tmp_path, trained_bilm):
    """An accuracy of other classes, or on other rows, does not make an earlier classifier the better one."""
    texts = tmp_path / "texts.csv"
    rows = [f"the {w} number {i},{'sports' if i % 2 else 'news'},{i % 4}" for i, w in enumerate(["game", "bank"] * 60)]
    texts.write_text("\n".join(["text,topic,stars", *rows]) + "\n")
    common = ["--train", texts, "--text-column", "text", "--output", tmp_path, "--bilm", trained_bilm, "--hidden", 16]
    for column, mode in (("topic", "trainable"), ("stars", "function")):
        run = run_script("classification.py", *common, "--label-column", column, "--mode", mode, "--epochs", 3)
        assert run.code == 0 and f"classifier.pt: {mode}, the best" in run.out, run.err
    command = run.out.strip().split("Next: python ")[1]
    assert command.endswith(f" --test FILE --bilm {trained_bilm}   (FILE: rows to test on)")
    models = tmp_path / "models/texts"
    files = find_classifiers(models, load_bilm(trained_bilm))
    assert files.accuracies["trainable"] > files.accuracies["function"] and files.best == "function"
    shutil.copy(trained_bilm, models / "bilstm.pt")
    assert TextClassifier.load(models / "bilstm.pt").classes == ["0", "1", "2", "3"]
    test = tmp_path / "test.csv"
    test.write_text("text,stars\nthe game,1\na bank,2\n")
    options = ["--train", texts, "--test", test, "--text-column", "text", "--label-column", "stars"]
    run = run_script(*shlex.split(command.partition("   ")[0].replace("FILE", str(test))))
    assert run.code == 0 and "test: 2 texts" in run.out, run.err
    run = run_script("evaluate.py", *options, "--output", tmp_path)
    assert run.code == 0 and "Not evaluated: " in run.err and "other classes: news, sports." in run.err, run.err
