import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SAMPLE

from bilm.runtime.errors import UserError
from bilm.runtime.paths import folders
from bilm.text import corpus
from bilm.text.ag_news import CLASS_NAMES, read_ag_news
from bilm.text.corpus import find_corpus
from bilm.text.custom_dataset import NO_LABEL
from bilm.text.split import split_validation, text_key

ROWS = [
    (3, "Oil up", 'Oil rose to "$50", a record.'),
    (1, "", "Ministers met\nin Oslo, again."),
    (2, "Goal", "They won 2-1."),
]


def quoted(cells) -> str:
    return ",".join('"' + str(cell).replace('"', '""') + '"' for cell in cells) + "\n"


FORMS = {
    "published": "".join(quoted(row) for row in ROWS),
    "kaggle": "Class Index,Title,Description\n" + "".join(quoted(row) for row in ROWS),
    "course": "Class Index,Description\n" + "".join(quoted((row[0], row[2])) for row in ROWS),
    "windows": "\ufeff"
    + ("Class Index,Title,Description\n" + "".join(quoted(row) for row in ROWS)).replace("\n", "\r\n"),
    "blank line at the end": "".join(quoted(row) for row in ROWS) + "\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_are_read(tmp_path, form):
    path = tmp_path / "train.csv"
    path.write_bytes(FORMS[form].encode())
    labels, texts = zip(*read_ag_news(path), strict=True)
    assert [text.replace("\r", "") for text in texts] == [row[2] for row in ROWS]
    assert labels == (2, 0, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (b"Class Index,Title,Description\n", "has no rows"),
        (b"name,text\na,b\n", "row 1: these are not AG News columns"),
        (b"1,only a title\n", "row 1: these are not AG News columns"),
        (
            b'"1","t","fine"\n"5","t","text"\n',
            r"row 2 \(line 2\), column 1: '5' is not a class; the classes are 1 to 4",
        ),
        (b'"1","t","fine"\n"x","t","text"\n', "column 1: 'x'"),
        (b'"1","t","fine"\n"0","t","text"\n', "column 1: '0'"),
        (b'"1","t","a\nb"\n"2","t",""\n', r"row 2 \(line 3\), column 3: it is empty"),
        (b'"1","t","..."\n', "column 3: it is not text"),
        (b'"1","t","fine"\n"2","t"\n', "row 2.*: 2 columns where the first row has 3"),
        (
            b'"1","t","fine"\n"2","t","cut in the mid',
            r"row 2 \(line 2\): a quotation mark that opens a cell",
        ),
        (b'"1","t","fine"\n"2","t","caf\xe9"\n', "line 2: byte 0xe9 is not UTF-8"),
    ],
)
def test_errors_name_file_row_and_column(tmp_path, content, message):
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        list(read_ag_news(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_very_long_field_is_read(tmp_path):
    (tmp_path / "train.csv").write_text(quoted((1, "t", "word " * 100_000)), encoding="utf-8")
    ((label, text),) = read_ag_news(tmp_path / "train.csv")
    assert label == 0 and len(text) == 500_000


def numbered(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and keys of `count` distinct texts."""
    return np.arange(count) % 4, keys(f"text number {i}" for i in range(count))


def keys(texts) -> np.ndarray:
    return np.array([text_key(text) for text in texts], dtype=np.uint64)


def test_validation_is_stratified_and_disjoint_from_training():
    labels, text_keys = numbered(2000)
    train, validation = split_validation(labels, text_keys)
    assert sorted([*train, *validation]) == list(range(2000))
    assert np.bincount(labels[validation]).tolist() == [25] * 4
    assert np.bincount(labels[split_validation(*numbered(60))[1]]).tolist() == [3] * 4


@pytest.mark.parametrize(("rows", "validation"), [(2, 1), (7, 1), (8, 2), (15, 3), (40, 10), (160, 10), (1000, 50)])
def test_the_share_of_validation_rows_in_a_class(rows, validation):
    """5 %, at least 10, at most a quarter, and at least one."""
    assert len(split_validation(np.zeros(rows, np.int64), numbered(rows)[1])[1]) == validation


def test_rows_without_a_label_are_for_training_unless_all_are():
    text_keys = numbered(80)[1]
    labels = np.repeat([0, NO_LABEL], 40)
    train, validation = split_validation(labels, text_keys)
    assert len(validation) == 10 and set(validation) < set(range(40)) and len(train) == 70
    assert len(split_validation(np.full(80, NO_LABEL), text_keys)[1]) == 10
    with pytest.raises(UserError, match=r"^there is a single distinct text among the 1 training rows"):
        split_validation(np.array([NO_LABEL]), text_keys[:1])


def test_validation_does_not_depend_on_the_order_of_rows():
    labels, text_keys = numbered(200)
    reversed_rows = split_validation(labels[::-1], text_keys[::-1])[1]
    assert set(split_validation(labels, text_keys)[1]) == set(199 - reversed_rows)


def test_the_validation_rows_are_fixed():
    """The same in every version, so that results of different versions can be compared."""
    assert text_key("Stocks fell.") == text_key("stocks-FELL") == 4635110909192999860
    assert split_validation(*numbered(60))[1].tolist() == [4, 9, 11, 15, 30, 32, 34, 45, 50, 52, 55, 57]


def test_keys_of_texts_with_few_letters_use_all_characters():
    for one, other in (("C", "C++"), ("!!!", "???"), ("😀", "😡"), ("I like C", "I like C#"), ("नी", "नि")):
        assert text_key(one) != text_key(other)
    for one, other in (
        ("C++  is", " c++\u3000IS\n"),
        ("I like C++ best", "i like C best!"),
        ("caf\u00e9 noir et au lait", "CAFE\u0301 noir, et au lait"),
        ("\U0001f600 e\u0301", "\U0001f600  \u00c9"),
    ):
        assert text_key(one) == text_key(other)
    assert text_key("abcdefg!") != text_key("abcdefg") and text_key("abcdefgh!") == text_key("abcdefgh")
    assert text_key("हिन्दी समाचार पत्र") != text_key("हन्द समचर पत्र"), "vowel signs count"


def letter_key(text: str) -> int:
    """The key of earlier versions, a hash of letters and digits for every text."""
    letters = re.sub(r"[\W_]+", "", text).lower()
    return int.from_bytes(hashlib.sha256(letters.encode()).digest()[:8], "big")


@pytest.mark.parametrize("split", ["train", "test"])
def test_keys_of_the_sample_are_those_of_earlier_versions(split):
    assert all(text_key(text) == letter_key(text) for _, text in read_ag_news(SAMPLE / f"{split}.csv"))


@pytest.mark.real_data
@pytest.mark.skipif("AG_NEWS_DIR" not in os.environ, reason="AG_NEWS_DIR is not set")
@pytest.mark.parametrize("split", ["train", "test"])
def test_keys_of_ag_news_are_those_of_earlier_versions(split):
    """The validation rows, which depend only on the keys, are then the same, too."""
    path = Path(os.environ["AG_NEWS_DIR"]) / f"{split}.csv"
    assert all(text_key(text) == letter_key(text) for _, text in read_ag_news(path))


def test_copies_of_a_validation_text_are_not_trained_on():
    labels, text_keys = numbered(200)
    _, validation = split_validation(labels, text_keys)
    texts = [f"text number {i}" for i in range(200)]
    copies = [texts[i].upper() + "!" for i in validation]
    # Also with another label.
    train, both = split_validation(np.r_[labels, (labels[validation] + 1) % 4], keys(texts + copies))
    assert both.tolist() == [*validation, *range(200, 200 + len(copies))]
    assert set(train) == set(range(200)) - set(validation)


def test_a_class_of_one_text_cannot_be_split():
    with pytest.raises(UserError, match="class 'Sports' has a single distinct text"):
        split_validation(np.array([0, 0, 1, 1]), keys(["a", "b", "the same text", "The same text!"]))


def test_limit_selects_evenly_spaced_rows(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("".join(quoted((1 + i // 25, "t", f"text {i}")) for i in range(100)), encoding="utf-8")
    assert np.bincount([label for label, _ in read_ag_news(path, 8)]).tolist() == [2, 2, 2, 2]
    assert list(read_ag_news(path, 500)) == list(read_ag_news(path, 100)) == list(read_ag_news(path))


def test_the_sample():
    for split, rows in (("train", 100), ("test", 40)):
        labels, texts = zip(*read_ag_news(SAMPLE / f"{split}.csv"), strict=True)
        assert np.bincount(labels).tolist() == [rows] * len(CLASS_NAMES)
        assert len(set(texts)) == len(texts)


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(FORMS["published"], encoding="utf-8")
    return tmp_path


def test_the_order_in_which_folders_are_searched(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("AG_NEWS_DIR", raising=False)
    assert find_corpus(str(SAMPLE)).name == "sample"
    assert find_corpus(str(folder)).name == folder.name
    monkeypatch.setenv("AG_NEWS_DIR", str(folder))
    assert (find_corpus().name, find_corpus().train.parent) == ("ag_news", folder)
    assert find_corpus(str(folder)).name == "ag_news"
    assert find_corpus(str(SAMPLE)).name == "sample"
    monkeypatch.setenv("AG_NEWS_DIR", str(SAMPLE))
    assert find_corpus().name == find_corpus(str(SAMPLE)).name == "sample"
    monkeypatch.delenv("AG_NEWS_DIR")
    monkeypatch.setattr(corpus, "DOWNLOADED", folder)
    assert (find_corpus().name, find_corpus().train.parent) == ("ag_news", folder)


def test_folders_of_different_data_and_limits_differ():
    assert folders(None, "ag_news", None).models == ROOT / "models"
    assert folders("x", "sample", 7).results == Path("x/results/sample-limit-7")
    assert folders("x", "limit-7", None) != folders("x", "ag_news", 7)
    assert folders("x", "full", None).runs != folders("x", "ag_news", None).runs


def test_a_named_folder_without_data_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"^there is no train\.csv"):
        find_corpus(str(tmp_path))
    monkeypatch.setenv("AG_NEWS_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"AG_NEWS_DIR: there is no train\.csv"):
        find_corpus()


def test_without_a_network_the_sample_is_used_with_a_banner(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("AG_NEWS_DIR", raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(corpus, "DOWNLOADED", tmp_path / "ag_news")
    corpus_used = find_corpus()
    assert corpus_used.name == "sample" and corpus_used.is_fallback
    assert "SAMPLE DATA" in capsys.readouterr().err
