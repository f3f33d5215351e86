"""`bilm predict` as a user runs it, and TextClassifier."""

import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SAMPLE, run_script

from bilm.cli.predict import Writer
from bilm.inference.explanations import as_page, in_colour, in_numbers
from bilm.inference.text_classifier import Explanation, TextClassifier
from bilm.text.ag_news import read_ag_news
from bilm.text.readers import batched


@pytest.fixture(scope="module")
def weights(trained):
    return trained[0] / "models/sample"


@pytest.fixture(scope="module")
def classifier(weights):
    return TextClassifier.load(weights / "bilstm.pt")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [text for _, text in read_ag_news(SAMPLE / "test.csv")]


def predict(weights, *arguments, inputs: str = "") -> SimpleNamespace:
    run = run_script("-m bilm predict", "--bilm", weights / "bilstm.pt", *arguments, inputs=inputs)
    return SimpleNamespace(returncode=run.code, stdout=run.out, stderr=run.err)


def test_classes_are_those_of_the_evaluation(trained, weights, texts, tmp_path, monkeypatch):
    """In order, over several batches, from a column of a CSV, by the classifier that is best on validation."""
    monkeypatch.setattr("bilm.cli.predict.BATCH_TEXTS", 250)
    results = trained[0] / "results/sample"
    summary = json.loads((results / "summary.json").read_text())["classifiers"]
    best = max(summary, key=lambda mode: summary[mode]["validation_accuracy"])
    expected = json.loads((results / "predictions.json").read_text())["models"][best]["classes"].split()
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("number", "text"), *((n, f'{text}\n"') for n, text in enumerate(texts * 4))])
    run = predict(weights, "--input", tmp_path / "texts.csv", "--column", "text", "--format", "jsonl")
    assert run.returncode == 0, run.stderr
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    names = list(answers[0]["probabilities"])
    plain = [text for answer in answers for text in [answer["text"]]]
    assert plain == [f'{text}\n"' for text in texts * 4]
    classifier = TextClassifier.load(weights / "bilstm.pt")
    assert [names.index(name) for name in classifier.predict(texts)] == list(map(int, expected))
    assert classifier.predict(plain) == [answer["class"] for answer in answers]
    for answer in answers:
        assert answer["class"] == max(names, key=answer["probabilities"].__getitem__)


def test_fewer_texts_of_standard_input_are_classified_at_once(weights, texts, tmp_path, monkeypatch):
    """A file is cut into larger pieces: there, nobody waits for the first answer."""
    sizes, classify = [], TextClassifier.predict_proba
    monkeypatch.setattr("bilm.cli.predict.BATCH_TEXTS", 80)
    monkeypatch.setattr("bilm.cli.predict.BATCH_TEXTS_STDIN", 60)
    monkeypatch.setattr(TextClassifier, "predict_proba", lambda self, x: sizes.append(len(x)) or classify(self, x))
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    assert predict(weights, "--input", tmp_path / "texts.txt").returncode == 0
    assert predict(weights, "--input", "-", inputs=(tmp_path / "texts.txt").read_text()).returncode == 0
    assert sizes == [80, 60, 20]


def test_a_prediction_does_not_depend_on_the_batch(classifier, texts):
    alone = np.concatenate([classifier.predict_proba([text]) for text in texts[:20]])
    together = classifier.predict_proba(texts)
    np.testing.assert_allclose(alone, together[:20], atol=1e-6)
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-5)
    with pytest.raises(TypeError, match="list of texts"):
        classifier.predict("one text")


def test_forms_of_input_and_output(weights, tmp_path):
    table = predict(weights, "Stocks fell.", "The coach resigned.")
    assert table.returncode == 0 and len(table.stdout.splitlines()) == 3, table.stderr
    lines = predict(weights, "--input", "-", "--format", "csv", inputs="Stocks fell.\n\nThe coach, resigned.\n")
    header, *rows = csv.reader(io.StringIO(lines.stdout))
    assert header == ["class", "World", "Sports", "Business", "Sci/Tech", "text"]
    assert [row[-1] for row in rows] == ["Stocks fell.", "", "The coach, resigned."]
    (tmp_path / "texts.tsv").write_text("a\tb\n1\tStocks fell.\n2\tThe coach, resigned.\n")
    (tmp_path / "texts.jsonl").write_text('{"b": "Stocks fell."}\n\n{"b": "The coach, resigned."}\n')
    (tmp_path / "half.jsonl").write_text('{"b": "half \\ud83d of it"}')
    run = predict(weights, "--input", tmp_path / "half.jsonl", "--column", "b", "--format", "csv")
    assert run.returncode == 0 and run.stdout.endswith("half ? of it\n"), run.stderr
    (tmp_path / "texts.csv").write_text('2,Stocks fell.\n\n2,"The coach, resigned."\n')
    for name in ("texts.tsv", "texts.jsonl", "texts.csv"):
        run = predict(
            weights, "--input", tmp_path / name, "--column", "2" if name == "texts.csv" else "b", "--format", "csv"
        )
        assert list(csv.reader(io.StringIO(run.stdout)))[1:] == [rows[0], rows[2]], run.stderr


@pytest.mark.parametrize(
    ("name", "content", "arguments", "message"),
    [
        ("a.csv", b"x,y\n1,2\n", ["--column", "z"], "has no column 'z'"),
        ("a.csv", b"x,y\n1,2\n", [], "name the one with the texts"),
        (
            "a.csv",
            b'x,y\n1,"2\n',
            ["--column", "y"],
            "row 2 (line 2): a quotation mark that opens a cell",
        ),
        ("a.csv", b"x,y\n1\n", ["--column", "y"], "row 2 (line 2): 1 columns where the first row has 2"),
        ("a.jsonl", b'{"x": "1"}\n{"x"', ["--column", "x"], "line 2: it is not JSON"),
        ("a.jsonl", b'{"x": 1}\n', ["--column", "x"], "line 1, column 'x': it is a number, not text"),
        ("a.txt", b"caf\xe9\n", [], "is not UTF-8"),
        ("a.txt", b"one\n", ["--column", "x"], "is read line by line"),
        ("a.txt", b"one\n", ["a text"], "give either texts or --input"),
        ("a.txt", b"one\n", ["--html", "x.html"], "--html is for --explain"),
        ("a.txt", b"one\n", ["--explain", "--html", "classifier.pt"], "should end in .html"),
        ("", b"", ["--input", "nowhere.txt"], "nowhere.txt cannot be read"),
        ("", b"", ["a text", "--device", "gpu"], "device 'gpu'"),
    ],
)
def test_mistakes_are_one_line(weights, tmp_path, name, content, arguments, message):
    source = []
    if name:
        (tmp_path / name).write_bytes(content)
        source = ["--input", tmp_path / name]
    run = predict(weights, *source, *arguments)
    assert run.returncode == 2 and message in run.stderr and run.stderr.count("\n") == 1, run.stderr
    assert not run.stdout


def test_a_file_that_is_given_as_a_text_is_said(weights, tmp_path):
    (tmp_path / "a.txt").write_text("Rain fell.\n")
    run = predict(weights, tmp_path / "a.txt")
    assert run.returncode == 0 and "a.txt is the name of a file" in run.stderr and "--input" in run.stderr
    for text in ("Rain fell.", 200 * "雨", 5000 * "rain "):
        run = predict(weights, text)
        assert run.returncode == 0 and "is the name of a file" not in run.stderr, run.stderr


def test_a_class_named_as_a_column_gives_no_second_one(capsys):
    write = Writer("csv", ["text", "class", "sport"])
    write("They won.", np.array([0.1, 0.2, 0.7]))
    (header, row) = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == ["class", "probability of text", "probability of class", "sport", "text"]
    assert row == ["sport", "0.1000", "0.2000", "0.7000", "They won."]


def test_texts_of_all_kinds_have_a_class(classifier):
    odd = ["", " ", "\x00\x07\u202e", "word " * 100_000, "日本語のニュース", "🏀" * 500, "<b></b>", "a" * 100_000]
    probabilities = classifier.predict_proba(odd)
    assert np.isfinite(probabilities).all() and probabilities.shape == (8, 4)
    assert classifier.predict_proba([]).shape == (0, 4)


def test_an_explanation_leaves_out_each_word(classifier):
    result = classifier.explain("Stocks fell in <i>New York</i>")
    assert result.words == ["stocks", "fell", "in", "new", "york"]
    expected = int(result.probabilities.argmax())
    for i, weight in enumerate(result.weights):
        rest = " ".join(word for j, word in enumerate(result.words) if j != i)
        p, q = (classifier.predict_proba([text])[0, expected] for text in (" ".join(result.words), rest))
        assert weight == pytest.approx(np.log(p / (1 - p)) - np.log(q / (1 - q)), abs=1e-4)
    other = classifier.classes[(expected + 1) % 4]
    assert not np.allclose(classifier.explain("Stocks fell in New York", of=other).weights, result.weights)
    assert classifier.explain("").words == []
    with pytest.raises(ValueError):
        classifier.explain("Stocks", of="Weather")


def test_explanations_as_text_and_as_a_page(weights, tmp_path):
    run = predict(weights, "--explain", "Stocks fell <b>&")
    assert run.returncode == 0 and "\x1b" not in run.stdout and "stocks" in run.stdout
    page = tmp_path / "page.html"
    run = predict(weights, "--explain", "--html", page, "Stocks fell & rose", "The coach resigned")
    assert run.returncode == 0 and "Wrote" in run.stdout, run.stderr
    text = page.read_text()
    assert text.count("<article>") == 2 and ">&amp;</mark>" in text and ">coach</mark>" in text
    result = Explanation(np.array([0.25, 0.75]), ["for", "against", "neither"], np.array([2.0, -0.4, 0.01]))
    assert in_colour(result) == "\x1b[32;1mfor\x1b[0m \x1b[31magainst\x1b[0m neither"
    assert in_numbers(result) == "for (+2.00) against (-0.40) neither"
    assert "<h2>b&lt;</h2>" in as_page([result], ["a", "b<"])


def test_control_characters_are_not_printed(weights):
    run = predict(weights, "\x1b[31mred\x07 \u202eturned")
    assert run.returncode == 0 and "\x1b" not in run.stdout and "\x07" not in run.stdout and "\u202e" not in run.stdout
    assert "�[31mred� �turned" in run.stdout


def test_batched_keeps_the_order():
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_missing_classifier_is_one_line(weights, tmp_path):
    (tmp_path / "bilstm.pt").write_bytes((weights / "bilstm.pt").read_bytes())
    run = predict(tmp_path, "Stocks fell.")
    assert run.returncode == 2 and "Train one: python classification.py" in run.stderr
    assert run.stderr.count("\n") == 1
