"""Whatever a CSV or a text holds: it is read as it was written, or refused in one line with its place."""

import csv
import io
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SAMPLE, TINY, run_script
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bilm.checkpoints.model_format import load_bilm, load_classifier
from bilm.config import TokenizerConfig, VocabularyConfig
from bilm.runtime.errors import UserError
from bilm.text.ag_news import read_ag_news
from bilm.text.batching import iterate_batches
from bilm.text.split import FEW_LETTERS, split_validation, text_key
from bilm.text.text_rules import JOINERS, collapse_blanks, letters_and_digits
from bilm.text.tokenizer import Tokenizer, clean
from bilm.text.vocabulary import BOS, EOS, SPECIALS, UNK, Vocabulary
from bilm.training.classification import predict

# tmp_path is the same for all examples of a test: each writes its file anew.
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

encodable = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
descriptions = encodable.filter(lambda text: any(c.isalnum() for c in text))
rows = st.lists(st.tuples(st.integers(1, 4), encodable, descriptions), min_size=1, max_size=12)


@one_folder
@given(
    rows=rows,
    header=st.booleans(),
    titles=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_was_written_is_read(tmp_path, rows, header, titles, newline, mark, quoting):
    """NULs, quotes, line breaks and all; with or without header, titles, byte order mark."""
    assume(header or titles)
    if quoting == csv.QUOTE_MINIMAL:  # which leaves a bare carriage return without quotes: two rows, to any reader
        rows = [(label, title.replace("\r", ""), text.replace("\r", "")) for label, title, text in rows]
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=quoting, lineterminator=newline)
    if header:
        writer.writerow(["Class Index", "Title", "Description"] if titles else ["Class Index", "Description"])
    for label, title, text in rows:
        writer.writerow([label, title, text] if titles else [label, text])
    path = tmp_path / "train.csv"
    path.write_bytes(out.getvalue().encode("utf-8-sig" if mark else "utf-8"))
    assert list(read_ag_news(path)) == [(label - 1, text) for label, _, text in rows]


def is_read_or_refused(path: Path) -> None:
    try:
        rows = list(read_ag_news(path))
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error) and "\r" not in str(error)
    else:
        assert rows and all(any(c.isalnum() for c in text) for _, text in rows)
        assert {label for label, _ in rows} <= set(range(4))


@one_folder
@given(content=st.binary(max_size=200) | encodable.map(lambda text: text.encode("utf-16")))
def test_any_bytes_are_read_or_refused(tmp_path, content):
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    is_read_or_refused(path)


SMALL = b'"3","Oil up","Oil rose to ""$50"", a record."\n"1","","Ministers met\nin Oslo."\n"2","Goal","They won 2-1."\n'


@one_folder
@given(
    place=st.integers(0, len(SMALL)),
    length=st.integers(0, 20),
    put=st.binary(max_size=4)
    | st.sampled_from([b'"', b"\n", b",", b"\0", b'""', b"\r", b"\xff", b"9" * 5000, b"\xef\xbb\xbf"]),
)
def test_a_damaged_csv_is_read_or_refused(tmp_path, place, length, put):
    path = tmp_path / "train.csv"
    path.write_bytes(SMALL[:place] + put + SMALL[place + length :])
    is_read_or_refused(path)


@given(texts=st.lists(st.sampled_from("abcdefgh") | descriptions, min_size=1, max_size=40), data=st.data())
def test_a_split_shares_nothing_and_leaves_nothing_out(texts, data):
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(texts), max_size=len(texts))))
    try:
        training, validation = split_validation(labels, np.array([text_key(t) for t in texts], dtype=np.uint64))
    except UserError as error:
        assert "single distinct text" in str(error)
        return
    assert sorted([*training, *validation]) == list(range(len(texts))) and len(training) and len(validation)
    for convolved, at_least in ((collapse_blanks, 0), (letters_and_digits, FEW_LETTERS)):
        lower = [convolved(text).lower() for text in texts]
        sides = [{lower[i] for i in side if len(lower[i]) >= at_least} for side in (training, validation)]
        assert not sides[0] & sides[1]


anything = st.text(max_size=80) | st.text("<>/&;#_ \\'\".,aA1\n\0é東", max_size=40)


def is_visible(text: str) -> bool:
    return bool(re.sub(f"[{JOINERS}]", "", collapse_blanks(text)))


@given(text=anything, lowercase=st.booleans(), max_tokens=st.integers(1, 20))
def test_the_tokenizer_never_raises_and_never_comes_back_empty_handed(text, lowercase, max_tokens):
    words = Tokenizer(TokenizerConfig(lowercase=lowercase, max_tokens=max_tokens))(text)
    assert bool(words) == is_visible(text) and len(words) <= max_tokens
    assert all(word and not any(c.isspace() for c in word) for word in words)
    assert isinstance(clean(text), str)


@given(texts=st.lists(anything, max_size=6), min_count=st.integers(1, 5), max_words=st.integers(5, 30))
def test_a_vocabulary_holds_words_when_there_are_any(texts, min_count, max_words):
    vocabulary = Vocabulary.learn(texts, Tokenizer(), VocabularyConfig(min_count=min_count, max_words=max_words))
    assert (len(vocabulary) > len(SPECIALS)) == any(map(is_visible, texts)) and len(vocabulary) <= max_words
    encoded = vocabulary.encode(texts)
    assert len(encoded) == len(texts)
    for i in range(len(texts)):
        ids = encoded.ids[encoded.offsets[i] : encoded.offsets[i + 1]].tolist()
        assert ids[0] == BOS and ids[-1] == EOS and all(x == UNK or x >= len(SPECIALS) for x in ids[1:-1])


# Planes and corners of Unicode that programs have stumbled over.
CORNERS = [
    range(0x00, 0x20),  # controls
    range(0x20, 0x7F),
    range(0x300, 0x370),  # combining marks
    range(0x590, 0x700),  # right to left
    range(0x2000, 0x2070),  # blanks without width, direction marks
    range(0x4E00, 0x9FFF),
    range(0xD800, 0xE000),  # halves of surrogate pairs
    range(0xE000, 0xF900),  # private use
    range(0xFE00, 0xFE10),  # variation selectors
    range(0x1F300, 0x1FAFF),
    range(0xE0000, 0xE007F),  # tags
    range(0x10FFF0, 0x110000),  # the end
]


def random_text(chance: random.Random) -> str:
    length = chance.choice([0, 1, 2, 10, 50, 300])
    return "".join(chr(chance.choice(chance.choice(CORNERS))) for _ in range(length))


@pytest.mark.slow
def test_random_unicode_through_the_classifiers(trained, record):
    """10,000 strings, alone and in company: finite figures, the same class each time."""
    chance = random.Random(0)
    texts = [random_text(chance) for _ in range(10_000)]
    models = trained[0] / "models/sample"
    pretrained = load_bilm(models / "bilstm.pt")
    encoded = pretrained.vocabulary.encode(texts)
    everything, some = np.arange(len(texts)), np.arange(0, len(texts), 100)
    for mode in ("trainable", "frozen", "function"):
        model = load_classifier(models / f"classifier_{mode}.pt", pretrained).model
        with torch.no_grad():
            classes = predict(model, iterate_batches(encoded, everything, 8192), len(texts), torch.device("cpu"))
            alone = predict(model, iterate_batches(encoded, some, 1), len(texts), torch.device("cpu"))
            assert all(model(batch).isfinite().all() for batch in iterate_batches(encoded, some, 8192))
        assert set(classes.tolist()) <= {0, 1, 2, 3}
        assert (classes[some] == alone[some]).all()
    record("random Unicode strings through each classifier", {"strings": len(texts), "errors": 0})


def write(folder: Path, rows: list[tuple[int, str]]) -> Path:
    folder.mkdir()
    for split in ("train", "test"):
        with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["Class Index", "Description"], *rows])
    return folder


def test_a_corpus_as_odd_as_can_be_goes_through(tmp_path):
    """One class, markup for words, a field of a megabyte, copies, NULs, right to left; each word seen once."""
    texts = ["<b>", "a\0b", "word " * 200_000, "x" * 1_000_000, "\u202eשלום\u202c", "___ a", "copy", "copy", "東" * 5]
    data = write(tmp_path / "data", [(2, text) for text in texts])
    common = ["--data", data, "--output", tmp_path / "out"]
    run = run_script("ELMO.py", *common, *TINY, "--epochs", 1, "--min-count", 1000)
    assert run.code == 0, run.err
    run = run_script("classification.py", *common, "--epochs", 1, "--mode", "frozen")
    assert run.code == 0 and "no row is of class 'World'" in run.out, run.err
    run = run_script("evaluate.py", *common, "--split", "all")
    assert run.code == 0 and "Note: World, Business, Sci/Tech: no row; the recall counts as 0." in run.out, run.err
    summary = json.loads((tmp_path / "out/results/data/summary.json").read_text())
    assert summary["classifiers"]["frozen"]["test"]["rows"] == len(texts)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, "a single row")], "class 'World' has a single distinct text"),
        ([(1, "all alike"), (1, "All alike!"), (1, "all-alike")], "class 'World' has a single distinct text"),
        ([(1, "one"), (1, "two"), (2, "three")], "class 'Sports' has a single distinct text"),
    ],
)
def test_a_corpus_that_cannot_be_split_is_refused(tmp_path, rows, message):
    run = run_script("ELMO.py", "--data", write(tmp_path / "data", rows), "--output", tmp_path / "out", *TINY)
    assert run.code == 2 and message in run.err and run.err.count("\n") == 1
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("*.lock"))


def test_the_sample_with_every_option_at_its_smallest(tmp_path):
    sizes = ["--width", 1, "--layers", 1, "--max-tokens", 1, "--max-words", 5, "--batch-tokens", 1, "--epochs", 1]
    run = run_script("ELMO.py", "--data", SAMPLE, "--output", tmp_path, "--limit", 40, *sizes)
    assert run.code == 0, run.err
