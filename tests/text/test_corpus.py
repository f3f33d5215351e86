import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, WHOLE_SAMPLE

from bilm.runtime.errors import UserError
from bilm.runtime.paths import folders
from bilm.text import corpus
from bilm.text.ag_news import CLASS_NAMES, read_ag_news
from bilm.text.corpus import find_corpus

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


def test_limit_selects_evenly_spaced_rows(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("".join(quoted((1 + i // 25, "t", f"text {i}")) for i in range(100)), encoding="utf-8")
    assert np.bincount([label for label, _ in read_ag_news(path, 8)]).tolist() == [2, 2, 2, 2]
    assert list(read_ag_news(path, 500)) == list(read_ag_news(path, 100)) == list(read_ag_news(path))


def test_the_sample():
    for split, rows in (("train", 100), ("test", 40)):
        labels, texts = zip(*read_ag_news(WHOLE_SAMPLE / f"{split}.csv"), strict=True)
        assert np.bincount(labels).tolist() == [rows] * len(CLASS_NAMES)
        assert len(set(texts)) == len(texts)


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(FORMS["published"], encoding="utf-8")
    return tmp_path


def test_the_order_in_which_folders_are_searched(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("AG_NEWS_DIR", raising=False)
    assert find_corpus(str(WHOLE_SAMPLE)).name == "sample"
    assert find_corpus(str(folder)).name == folder.name
    monkeypatch.setenv("AG_NEWS_DIR", str(folder))
    assert (find_corpus().name, find_corpus().train.parent) == ("ag_news", folder)
    assert find_corpus(str(folder)).name == "ag_news"
    assert find_corpus(str(WHOLE_SAMPLE)).name == "sample"
    monkeypatch.setenv("AG_NEWS_DIR", str(WHOLE_SAMPLE))
    assert find_corpus().name == find_corpus(str(WHOLE_SAMPLE)).name == "sample"
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
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^there is no train[.]csv in {re.escape(str(tmp_path))}. The folder needs"):
        find_corpus(".")
    (tmp_path / "train.csv").touch()
    with pytest.raises(UserError, match=r"^train\.csv is a file\. Name the folder with train\.csv and test\.csv\."):
        find_corpus("train.csv")


def test_without_a_network_the_sample_is_used_with_a_banner(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("AG_NEWS_DIR", raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(corpus, "DOWNLOADED", tmp_path / "ag_news")
    corpus_used = find_corpus()
    assert corpus_used.name == "sample" and corpus_used.is_fallback
    assert "SAMPLE DATA" in capsys.readouterr().err


def test_a_folder_whose_name_would_mean_something_else_has_another():
    """D: has no name, and results of AG News are in the folder without a name."""
    assert (corpus._name_of(Path("/")), corpus._name_of(Path("/data/news"))) == ("own-", "news")
