"""`bilm evaluate`: the metrics of any classifier on any file of texts and their classes."""

import csv
from collections import Counter
from types import SimpleNamespace

import pytest
from conftest import SAMPLE, run_script

from bilm import TextClassifier
from bilm.cli.evaluate import EvaluateOptions, find_rows
from bilm.runtime.errors import UserError
from bilm.text.ag_news import CLASS_NAMES


@pytest.fixture(scope="module")
def rows():
    with (SAMPLE / "test.csv").open(encoding="utf-8", newline="") as file:
        return [(CLASS_NAMES[int(row[0]) - 1], row[2]) for row in csv.reader(file)]


@pytest.fixture(scope="module")
def named(rows, tmp_path_factory):
    """The test rows of the sample, with the names of the classes, as someone labels texts for AG News' classes."""
    path = tmp_path_factory.mktemp("rows") / "topics.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("topic", "text"), *rows])
    return path


def expected(bilm, rows, classifier=None):
    """Accuracy, and the rows of the confusion matrix, counted from the predictions of the library."""
    model = TextClassifier.load(bilm, classifier)
    counts = Counter(zip((name for name, _ in rows), model.predict([text for _, text in rows]), strict=True))
    accuracy = sum(counts[name, name] for name in CLASS_NAMES) / len(rows)
    return accuracy, [[name, *(str(counts[name, other]) for other in CLASS_NAMES)] for name in CLASS_NAMES]


def test_metrics_are_counted_from_the_predictions(rows, named):
    """Of the classifier of this repository: a tiny one gives all rows one class, whatever their order."""
    accuracy, matrix = expected(None, rows)
    assert accuracy > 0.8
    for arguments in ((named, "--text-column", "text", "--label-column", "topic"), (SAMPLE / "test.csv",)):
        run = run_script("-m", "bilm", "evaluate", *arguments)
        assert run.code == 0, run.err
        assert f"accuracy {accuracy:.4f}" in run.out and f": {len(rows)} texts" in run.out
        lines = [line.split() for line in run.out.splitlines()]
        assert all(row in lines for row in matrix) and "calibration error" in run.out
        assert "was trained on rows of this file" not in run.err


def test_another_classifier_and_the_rows_that_it_was_trained_on(trained_bilm, rows):
    other = trained_bilm.parent / "classifier_frozen.pt"
    run = run_script("-m", "bilm", "evaluate", SAMPLE / "test.csv", "--bilm", trained_bilm, "--classifier", other)
    assert f"classifier frozen: accuracy {expected(trained_bilm, rows, other)[0]:.4f}" in run.out
    run = run_script("-m", "bilm", "evaluate", SAMPLE / "train.csv", "--bilm", trained_bilm, "--classifier", other)
    assert run.code == 0 and "was trained on rows of this file" in run.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name one file"),
        (["FILE", "FILE"], "name one file"),
        (["FILE", "--text-column", "text"], "name both columns"),
        (["FILE", "--text-column", "text", "--label-column", "subject"], "subject"),
        (["OTHER", "--text-column", "text", "--label-column", "topic"], "row 2 (line 2), column 'topic'"),
        (["NUMBERS", "--text-column", "3", "--label-column", "1"], "is read without naming its columns"),
        (["FILE", "--text-column", "text", "--label-column", "text"], "'text' and 'text' are one column"),
        (["FILE", "--text-column", "text", "--label-column", "2"], "'text' and '2' are one column"),
        (["CASE", "--text-column", "text", "--label-column", "topic"], "Did you mean 'Business'? Correct it"),
        (["NAMES"], "'Sports' is not a class; the classes are 0 to 3. For classes of another form, name both"),
        (["LINES"], "read line by line"),
        (["nothing.csv"], "there is no file"),
        (["FOLDER"], "is a folder"),
        (["EMPTY", "--text-column", "text", "--label-column", "topic"], "EMPTY"),
    ],
)
def test_mistakes_are_named(trained_bilm, named, tmp_path, arguments, message):
    (tmp_path / "other.csv").write_text("topic,text\nMoney,Stocks fell.\n", encoding="utf-8")
    (tmp_path / "empty.csv").write_text("topic,text\n", encoding="utf-8")
    (tmp_path / "case.csv").write_text("topic,text\nbusiness,Stocks fell.\n", encoding="utf-8")
    (tmp_path / "names.csv").write_text("text,label\nThey won.,Sports\n", encoding="utf-8")
    (tmp_path / "lines.txt").write_text("Stocks fell.\n", encoding="utf-8")
    files = {
        "FILE": named,
        "FOLDER": tmp_path,
        "NUMBERS": SAMPLE / "test.csv",
        **{p.stem.upper(): p for p in tmp_path.iterdir()},
    }
    run = run_script("-m", "bilm", "evaluate", *(files.get(a, a) for a in arguments), "--bilm", trained_bilm)
    assert run.code == 2 and str(files.get(message, message)) in run.err and "Traceback" not in run.err
    assert run.out == ""


def test_columns_are_needed_unless_the_classes_are_those_of_ag_news(named):
    with pytest.raises(UserError, match="name the columns"):
        find_rows(EvaluateOptions(file=(str(named),)), SimpleNamespace(classes=["a", "b"]))
