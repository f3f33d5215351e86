from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SAMPLE

from bilm import corpus as corpus_module
from bilm.corpus import CLASS_NAMES, Documents, find_corpus, limited, read_csv, split_validation
from bilm.errors import UserError
from bilm.folders import folders

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
    documents = read_csv(path)
    assert [text.replace("\r", "") for text in documents.texts] == [row[2] for row in ROWS]
    assert documents.labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (b"Class Index,Title,Description\n", "has no rows"),
        (b"name,text\na,b\n", "row 1: these are not AG News columns"),
        (b"1,only a title\n", "row 1: these are not AG News columns"),
        (b'"1","t","fine"\n"5","t","text"\n', r"row 2 \(line 2\), column 1 \(class\): '5' is not a class"),
        (b'"1","t","fine"\n"x","t","text"\n', "column 1 .*'x'"),
        (b'"1","t","fine"\n"0","t","text"\n', "column 1 .*'0'"),
        (b'"1","t","a\nb"\n"2","t",""\n', r"row 2 \(line 3\), column 3 \(description\): it is empty"),
        (b'"1","t","..."\n', "column 3 .*not text"),
        (b'"1","t","fine"\n"2","t"\n', "row 2.*: 2 columns where 3 are expected"),
        (b'"1","t","fine"\n"2","t","cut in the mid', "row 2: the file ends or breaks inside a quoted field"),
        (b'"1","t","fine"\n"2","t","caf\xe9"\n', "line 2: byte 0xe9 is not UTF-8"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, content, message):
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_csv(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_very_long_field_is_read(tmp_path):
    (tmp_path / "train.csv").write_text(quoted((1, "t", "word " * 100_000)), encoding="utf-8")
    assert len(read_csv(tmp_path / "train.csv").texts[0]) == 500_000


def documents(count: int = 200) -> Documents:
    return Documents([f"text number {i}" for i in range(count)], np.arange(count) % 4, "")


def test_validation_is_stratified_and_apart():
    train, validation = split_validation(documents(2000))
    assert sorted([*train, *validation]) == list(range(2000))
    assert np.bincount(documents(2000).labels[validation]).tolist() == [25] * 4
    assert np.bincount(documents(60).labels[split_validation(documents(60))[1]]).tolist() == [3] * 4


def test_validation_does_not_depend_on_the_order_of_rows():
    one = documents()
    turned = one.take(np.arange(len(one))[::-1])
    assert {one.texts[i] for i in split_validation(one)[1]} == {turned.texts[i] for i in split_validation(turned)[1]}


def test_copies_of_a_validation_text_are_not_trained_on():
    one = documents()
    _, validation = split_validation(one)
    copies = [one.texts[i].upper() + "!" for i in validation]
    # With another label, too.
    both = Documents(one.texts + copies, np.r_[one.labels, (one.labels[validation] + 1) % 4], "")
    train, validation = split_validation(both)
    assert not {both.texts[i].lower().strip("!") for i in train} & {
        both.texts[i].lower().strip("!") for i in validation
    }
    assert set(range(200, len(both))) <= set(validation)


def test_a_class_of_one_text_cannot_be_split():
    with pytest.raises(UserError, match="class 2 has a single distinct text"):
        split_validation(Documents(["a", "b", "c", "C!"], np.array([0, 0, 1, 1]), ""))


def test_limit_takes_rows_from_everywhere():
    by_class = Documents([str(i) for i in range(100)], np.arange(100) // 25, "")
    assert np.bincount(limited(by_class, 8).labels).tolist() == [2, 2, 2, 2]
    assert limited(by_class, None) is by_class and limited(by_class, 500) is by_class


def test_the_sample():
    for split, rows in (("train", 100), ("test", 40)):
        sample = read_csv(SAMPLE / f"{split}.csv")
        assert np.bincount(sample.labels).tolist() == [rows] * len(CLASS_NAMES)
        assert len(set(sample.texts)) == len(sample)


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(FORMS["published"], encoding="utf-8")
    return tmp_path


def test_where_the_data_is_looked_for(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("AG_NEWS_DIR", raising=False)
    assert find_corpus(str(SAMPLE)).name == "sample"
    assert find_corpus(str(folder)).name == folder.name
    monkeypatch.setenv("AG_NEWS_DIR", str(folder))
    assert (find_corpus().name, find_corpus().folder) == ("ag_news", folder)
    assert find_corpus(str(folder)).name == "ag_news"
    assert find_corpus(str(SAMPLE)).name == "sample"
    monkeypatch.setenv("AG_NEWS_DIR", str(SAMPLE))
    assert find_corpus().name == "sample"
    monkeypatch.delenv("AG_NEWS_DIR")
    monkeypatch.setattr(corpus_module, "DOWNLOADED", folder)
    assert (find_corpus().name, find_corpus().folder) == ("ag_news", folder)


def test_names_that_are_taken_are_not_given_to_data():
    assert folders(None, "ag_news", None).models == ROOT / "models"
    assert folders("x", "sample", 7).results == Path("x/results/sample-limit-7")
    assert folders("x", "limit-7", None) != folders("x", "ag_news", 7)
    assert folders("x", "full", None).runs != folders("x", "ag_news", None).runs


def test_a_named_folder_without_data_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"--data: there is no train\.csv"):
        find_corpus(str(tmp_path))
    monkeypatch.setenv("AG_NEWS_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"AG_NEWS_DIR: there is no train\.csv"):
        find_corpus()


def test_without_a_network_it_is_the_sample_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("AG_NEWS_DIR", raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(corpus_module, "DOWNLOADED", tmp_path / "ag_news")
    assert find_corpus().name == "sample"
    assert "SAMPLE DATA" in capsys.readouterr().err
