"""Files with every form of table, line end and compression, files of other kinds, and output that is read back."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import threading
from contextlib import redirect_stdout
from pathlib import Path

import h5py
import numpy as np
import pandas
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bilm.checkpoints.original_elmo import read_original
from bilm.cli.predict import Writer
from bilm.inference.vector_files import write_vectors
from bilm.runtime.errors import UserError
from bilm.text.ag_news import read_ag_news
from bilm.text.corpus import find_corpus, find_unlabelled, own_corpus
from bilm.text.custom_dataset import Columns, read_classes
from bilm.text.readers import Table, read_texts

one_folder = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text(
    "\r\n\t\",'a\0 \x85\u2028\ufeff", max_size=9
)
ODD = "a\rb\x0bc\x0cd\x1ce\x85f\u2028g\u2029h"

# Earlier versions of pandas end a cell at a NUL.
PANDAS_READS_NUL = int(pandas.__version__.split(".")[0]) >= 3


def texts_of(path: Path, column: str | None = None) -> list[str]:
    return list(read_texts(str(path), column))


def texts_of_stdin(monkeypatch, content: bytes) -> list[str]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
    return list(read_texts("-", None))


def refusal(path: Path, column: str | None = None) -> str:
    with pytest.raises(UserError) as error:
        texts_of(path, column)
    assert path.name in str(error.value) and "\n" not in str(error.value)
    return str(error.value).partition(path.name)[2]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"Stocks fell\rafter lunch.\nRain fell.\n", ["Stocks fell\rafter lunch.", "Rain fell."]),
        (f"{ODD}\nx\n".encode(), [ODD, "x"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\r\nb\r", ["a\r", "b\r"]),
        (b"\xef\xbb\xbfa\n\nb", ["a", "", "b"]),
        (b"", []),
        (b"\n", [""]),
        ("a\n\ufeffb\n".encode(), ["a", "\ufeffb"]),
    ],
)
def test_lines_end_at_line_feeds_alone(tmp_path, monkeypatch, content, texts):
    (tmp_path / "a.txt").write_bytes(content)
    assert texts_of(tmp_path / "a.txt") == texts_of_stdin(monkeypatch, content) == texts


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_no_other_character_ends_a_line_of_a_table(tmp_path, name):
    """Nor does a lone carriage return without quotation marks, which pandas and csv write: it is part of the cell."""
    text, delimiter = "a\x85b\u2028c" if name == "a.jsonl" else ODD, "\t" if name == "a.tsv" else ","
    table = f"n{delimiter}t\n1{delimiter}{text}\n2{delimiter}b\n"
    lines = f'{{"t": "{text}"}}\n{{"t": "b"}}\n' if name == "a.jsonl" else table
    (tmp_path / name).write_bytes(lines.encode())
    assert texts_of(tmp_path / name, "t") == [text, "b"]


def test_line_ends_of_windows_and_inside_of_cells(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'n,t\r\n1,"x\r\ny\r"\r\n\r\n2,\xe2\x80\xa8z\r\n3,"w\nv"')
    assert texts_of(tmp_path / "a.csv", "t") == ["x\r\ny\r", "\u2028z", "w\nv"]
    assert texts_of(tmp_path / "a.csv", "n") == ["1", "2", "3"]


def test_a_blank_line_is_no_row_and_an_empty_cell_is_one(tmp_path):
    """In a file with one column: every row gives a text."""
    (tmp_path / "a.csv").write_text('\nt\n""\n\n \nNA\nnull\n1e5\n007\n')
    assert texts_of(tmp_path / "a.csv", "t") == ["", " ", "NA", "null", "1e5", "007"]


@pytest.mark.parametrize(
    ("content", "column", "texts"),
    [
        # As Excel writes it where the comma is the decimal point.
        ('n;t\n1,5;x, y\n2;"a; b"\n', "t", ["x, y", "a; b"]),
        ("\ufeff\nt;n\r\nx;1\r\n", "t", ["x"]),
        # The semicolon is part of the text: no column is called so, there is another one, or there is no header.
        ("t;n\nx;1\n", "t;n", ["x;1"]),
        ("a;b,t\n1;2,x;y\n", "t", ["x;y"]),
        ("Stocks fell; rain came\nx; y\n", "1", ["Stocks fell; rain came", "x; y"]),
    ],
)
def test_a_csv_with_semicolons(tmp_path, content, column, texts):
    (tmp_path / "a.csv").write_text(content)
    assert texts_of(tmp_path / "a.csv", column) == texts


@pytest.mark.parametrize(
    ("name", "content", "column", "texts"),
    [
        ("a.csv", '"Stocks, fell",a\n"Rain",b\n', "1", ["Stocks, fell", "Rain"]),
        ("a.csv", 'text,n\n"Rain",b\n', "text", ["Rain"]),
        ("a.tsv", "text\tn\nRain\tb\n", "text", ["Rain"]),
        ("a.jsonl", '{"text": "Rain"}\n', "text", ["Rain"]),
        ("a.json", '[{"text": "Rain"}]', "text", ["Rain"]),
    ],
)
def test_a_second_byte_order_mark_is_skipped(tmp_path, name, content, column, texts):
    for count in range(4):
        (tmp_path / name).write_text("\ufeff" * count + content, encoding="utf-8")
        assert texts_of(tmp_path / name, column) == texts


@pytest.mark.parametrize("text", ["\ufeff", '\ufeff"a', '\ufeff"a" b', "\ufeffa", "a\ufeff"])
def test_a_byte_order_mark_in_a_cell_is_text(tmp_path, text):
    pandas.DataFrame([[text, text]] * 2).to_csv(
        tmp_path / "a.csv", header=False, index=False, quoting=csv.QUOTE_ALL, encoding="utf-8"
    )
    for column in ("1", "2"):
        assert texts_of(tmp_path / "a.csv", column) == [text] * 2


@pytest.mark.parametrize(("header", "column"), [("te\u0301xt", "t\u00e9xt"), ("t\u00e9xt", "te\u0301xt")])
@pytest.mark.parametrize("kind", ["csv", "csv, semicolons", "tsv", "jsonl", "json", "parquet"])
def test_a_column_with_an_accent_in_two_forms(tmp_path, kind, header, column):
    path = tmp_path / f"a.{kind.partition(',')[0]}"
    if kind == "parquet":
        parquet(path, **{header: ["x"], "n": ["y"]})
    elif kind.startswith("json"):
        record = json.dumps({header: "x", "n": "y"})
        path.write_text(f"[{record}]" if kind == "json" else record)
    else:
        path.write_text(f"{header},n\nx,y\n".replace(",", {"tsv": "\t", "csv": ","}.get(kind, ";")), encoding="utf-8")
    assert texts_of(path, column) == ["x"]
    (tmp_path / "a.csv").write_text("t\u00e9xt,te\u0301xt\nx,y\n", encoding="utf-8")
    assert " has 2 columns 't" in refusal(tmp_path / "a.csv", column)
    (tmp_path / "a.csv").write_text(f"{header}\u200b,n\nx,y\n", encoding="utf-8")
    assert " has no column 't" in refusal(tmp_path / "a.csv", column)
    assert "xt'. Did you mean 't\u00e9xt\\u200b'? Its first row" in refusal(tmp_path / "a.csv", column)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_as_pandas_writes_it(tmp_path, indent):
    texts = ["one\ntwo", "", "x\u2028y", "[z]"]
    pandas.DataFrame({"n": range(4), "t": texts}).to_json(tmp_path / "a.json", orient="records", indent=indent)
    assert texts_of(tmp_path / "a.json", "t") == texts
    pandas.DataFrame({"t": texts}).to_json(tmp_path / "b.json", orient="records", lines=True)
    assert texts_of(tmp_path / "b.json", "t") == texts


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        # Marks that are not closed in their cell, although two cells together have a pair.
        ('t\tl\n"Great movie\tpos\nNot for me"\tneg\nOk\tpos\n', ['"Great movie', 'Not for me"', "Ok"]),
        ('t\tl\nOk\tpos\n"Great movie\tpos\nDull\tneg\n', ["Ok", '"Great movie', "Dull"]),
        ('t\tl\n"Great" movie\tpos\n"a" and "b"\tneg\n', ['"Great" movie', '"a" and "b"']),
        ('t\tl\nsay "hi"\tpos\n', ['say "hi"']),
        # As pandas and csv quote.
        ('t\tl\n"say ""hi"""\tpos\n"a"\tneg\n', ['say "hi"', "a"]),
        ('t\tl\n"one\ttwo\n\nthree\n"\tpos\n"a"\tneg\n', ["one\ttwo\n\nthree\n", "a"]),
    ],
)
def test_tsv_with_and_without_quoting(tmp_path, content, texts):
    (tmp_path / "a.tsv").write_text(content)
    assert texts_of(tmp_path / "a.tsv", "t") == texts


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", 'n,t\n1,"two\nlines"\n2,"Great\n3,x\n4,y\n', ", row 3 (line 4): a quotation mark that opens a cell"),
        ("a.csv", 'n,t\n1,x\n2,"Great" movie\n', ", row 3 (line 3): a quotation mark that opens a cell"),
        ("a.csv", 'n,t\n\n1,"two\nlines"\n2\n', ", row 4 (line 5): 1 columns where the first row has 2"),
        ("a.csv", "n,t\n1,x\n2,y,z\n", ", row 3 (line 3): 3 columns where the first row has 2"),
        ("a.csv", "n,t\n1,x\n2,y,z,,\n", ", row 3 (line 3): 5 columns where the first row has 2"),
        ("a.csv", "n,t,t\n1,x,y\n", " has 2 columns 't'. Rename"),
        ("a.csv", "n,text\n1,x\n", " has no column 't'. Its first row has: 'n', 'text'"),
        ("a.tsv", 'n\tt\n1\t"a\nb"\n2\n', ", row 3 (line 4): 1 columns where the first row has 2: a tab"),
        ("a.tsv", 't\nok\n"Great\n', ", line 3: a quotation mark opens a cell"),
        ("a.tsv", 'n\tt\n1\t"Great\n2\n', ", row 2 (line 2): a quotation mark that opens a cell"),
        (
            "a.jsonl",
            '{"t": "x"}\n\n{"t": "y"\n',
            ", line 3: it is not JSON (Expecting ',' delimiter, column 10). Write one",
        ),
        ("a.jsonl", '{"t": "x"},{"t": "y"}\n', ", line 1: it is not JSON (Extra data"),
        ("a.jsonl", '[\n{"t": "x"}\n]\n', ", line 1: it is not JSON"),
        ("a.json", '[\n{"t": "x"}\n]\n-', ", line 4: the array is not JSON (Extra data)"),
        ("a.json", '["t"]', ", object 1: it is not a JSON object"),
        ("a.jsonl", '["t"]', ", line 1: it is not a JSON object. Write one object on each line"),
        ("a.json", '[{"t": "x"},\n{"t": ]', ", line 2: the array is not JSON (Expecting value)"),
        ("a.json", '\n[{"t": "x"}, {"t": 7}]', ", object 2, column 't': it is a number, not text"),
        ("a.jsonl", '{"text": "x", "n": 1}\n', " has no column 't'. Its first row has: 'text', 'n'"),
        ("a.json", '[{"T": "x"}, {"t": "x"}]', " has no column 't'. Did you mean 'T'? Its first row has: 'T'"),
        ("a.jsonl", '{"t": "x"}\n{"n": 1}\n', ", line 2, column 't': it is missing. Fill it in"),
        ("a.json", '{"t": {"0": "x", "1": "y"}}', ", line 1: it holds records and lists alone, as a whole table does"),
        ("a.json", '{"t": ["x", "y"]}', ", line 1: it holds records and lists alone, as a whole table does"),
        ("a.json", '{"index": [0], "data": [["x"]]}', ", line 1: it holds records and lists alone, as a whole table"),
        ("a.csv", "t\tn\nx\t1\n", " has no column 't'. Tabs separate its columns: let its name end in .tsv. Its first"),
        ("a.csv", "sep=;\nt;n\nx;1\n", ": its first line, 'sep=;', is for Excel alone. Remove that line."),
        ("a.csv", "sep=,\nt,n\nx,1\n", ": its first line, 'sep=', is for Excel alone. Remove that line."),
        ("a.tsv", "sep=\t\nt\tn\nx\t1\n", ": its first line, 'sep=', is for Excel alone. Remove that line."),
        ("a.csv", " T ,n\nx,1\n", " has no column 't'. Did you mean ' T '? Its first row has: ' T ', 'n'"),
        (
            "a.csv",
            "t;n\nx;1\ny;2;3\n",
            "row 3 (line 3): 3 columns where the first row has 2: a semicolon",
        ),
        ("a.jsonl", '{"t": "x"}\n{"t": null}\n', ", line 2, column 't': it is missing. Fill it in, convert"),
        ("a.jsonl", '{"t": "x"}\n{"t": ["y"]}\n', ", line 2, column 't': it is a list, not text. Fill it in, convert"),
    ],
)
def test_errors_have_a_position_and_a_remedy(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    assert message in refusal(tmp_path / name, "t")


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        (
            "a.csv",
            "2020,2021\nx,1\n",
            "2020",
            "Digits alone are the number of a column, not its name. Rename",
        ),
        ("a.csv", "t,n\nx,1\n", "3", "Digits alone are the number of a column, not its name. It has columns 1 to 2."),
        ("a.jsonl", '{"t": "x"}', "1", "Columns of such a file have names, not numbers."),
    ],
)
def test_a_number_that_is_no_column(tmp_path, name, content, column, message):
    (tmp_path / name).write_text(content)
    assert refusal(tmp_path / name, column).startswith(f" has no column '{column}'. {message}")


@pytest.mark.parametrize("name", ["a.xlsx", "a.csv.zip"])
def test_a_column_of_a_workbook_or_an_archive(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04\x14\x00\x00\x00")
    message = " is a ZIP archive, or an Excel workbook. Unpack it, or export the sheet as CSV."
    assert refusal(tmp_path / name, "t") == message
    with pytest.raises(UserError, match=f"{name}{message}"):
        own_corpus(str(tmp_path / name), None, "t", "n")


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl", "a.txt.gz"])
def test_a_byte_that_is_not_utf_8_has_a_position(tmp_path, name):
    content = (b'{"t": "x"}\n' if "json" in name else b"t\n") + b"caf\xe9\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    message = refusal(tmp_path / name, None if "txt" in name else "t")
    assert message.startswith(", line 2: byte 0xe9 is not UTF-8 (byte 4 of the line). Save the file as UTF-8")


def parquet(path: Path, **columns) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    return path


def test_parquet_of_other_types(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    for cells, result in (([1, 2], "a number"), ([["x"]], "a list"), ([{"x": 1}], "a record"), ([b"x"], "bytes")):
        message = refusal(parquet(tmp_path / "a.parquet", t=cells), "t")
        assert message.startswith(f", row 1, column 't': it is {result}, not text. Fill it in, convert it to text")
    assert "row 2, column 't': it is missing" in refusal(parquet(tmp_path / "a.parquet", t=["x", None]), "t")
    for kind in (pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())):
        assert texts_of(parquet(tmp_path / "a.parquet", t=pyarrow.array(["x", ODD]).cast(kind)), "t") == ["x", ODD]


@pytest.mark.parametrize(("ending", "module"), [(".gz", gzip), (".bz2", bz2), (".xz", lzma)])
def test_compressed_files(tmp_path, ending, module):
    compress = module.compress
    for name, content in (("a.csv", 't\n"x\ny"\n'), ("a.jsonl", '{"t": "x\\ny"}'), ("a.txt", "x y\n")):
        path = tmp_path / f"{name}{ending}"
        path.write_bytes(compress(content.encode()))
        assert [text.split() for text in texts_of(path, None if name == "a.txt" else "t")] == [["x", "y"]]
        path.write_bytes(compress(content.encode())[:-4])
        assert " is damaged or cut off" in refusal(path, None if name == "a.txt" else "t")
        path.write_bytes(content.encode())
        refusal(path, None if name == "a.txt" else "t")
    path = parquet(tmp_path / "b.parquet", t=["x"])
    (tmp_path / f"b.parquet{ending}").write_bytes(compress(path.read_bytes()))
    assert texts_of(tmp_path / f"b.parquet{ending}", "t") == ["x"]
    (tmp_path / f"c.csv{ending}").write_bytes(compress(b"t,l\nx,1\n"))
    assert own_corpus(str(tmp_path / f"c.csv{ending}"), None, "t", "l").name == "c"


@pytest.mark.parametrize(
    ("content", "result"),
    [
        (b"PK\x03\x04\x14\x00\x00\x00", "a ZIP archive, or an Excel workbook. Unpack it"),
        ("t\nhello\n".encode("utf-16"), "UTF-16, not UTF-8. Save it as UTF-8"),
        ("t\nhello\n".encode("utf-16-le"), "UTF-16, not UTF-8. Save it as UTF-8"),
        ("t\nhello\n".encode("utf-16-be"), "UTF-16, not UTF-8. Save it as UTF-8 (iconv -f utf-16be -t utf-8)"),
        *(
            (text.encode(f"{codec}-{order}"), f"{codec.upper()}, not UTF-8. Save it as UTF-8 (iconv -f {codec}{order}")
            for codec in ("utf-16", "utf-32")
            for order in ("le", "be")
            for text in (
                "a\n",
                "Привет мир\nКак дела\n",
                "t\r\nनमस्ते दुनिया\r\n",
                "Ça va\n",
                "你好 😀\n",
                "x" * 31 + "😀",
            )
        ),
        ("hello\n".encode("utf-32"), "UTF-32, not UTF-8. Save it as UTF-8 (iconv -f utf-32 -t utf-8)"),
        (b"\0\0\xfe\xff\0\0\0t", "UTF-32, not UTF-8. Save it as UTF-8 (iconv -f utf-32 -t utf-8)"),
        (b"news.csv".ljust(100, b"\0") + b"0000644\0", "padded with NUL bytes, as a tar archive is"),
        (gzip.compress(b"t\n", mtime=0), "compressed with gzip. Unpack it, or let its name end in .gz"),
        (b"PAR1\x15\x04\x15\x0e\0", "a Parquet file. Let its name end in .parquet"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, monkeypatch, content, result):
    for name, column in (("a.txt", None), ("a.csv", "t"), ("a.tsv", "t"), ("a.jsonl", "t")):
        (tmp_path / name).write_bytes(content)
        assert refusal(tmp_path / name, column).startswith(f" is {result}")
    with pytest.raises(UserError, match=r"^- is "):
        texts_of_stdin(monkeypatch, content)
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(UserError, match=result[:9]):
        list(read_ag_news(tmp_path / "train.csv"))


@pytest.mark.parametrize(
    "content",
    [
        "a\0b\n",
        "ab\0c",
        "a\0b",
        "\0",
        "\0\n",
        "\0\0\0\0",
        "x\n\0\0\n",
        "\x07abc",
        '"\0"',
        "日本\0語",
        "e" * 63 + "é",
    ],
)
def test_a_text_with_control_characters_is_one(tmp_path, monkeypatch, content):
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    texts = content.removesuffix("\n").split("\n")
    assert texts_of(tmp_path / "a.txt") == texts_of_stdin(monkeypatch, content.encode()) == texts


def test_a_folder_is_named(tmp_path):
    for name, column in (("a.txt", None), ("a.csv", "t"), ("a.jsonl", "t"), ("a.parquet", "t"), ("a.csv.gz", "t")):
        (tmp_path / name).mkdir()
        assert refusal(tmp_path / name, column) == " is a folder. Name a file in it."
    with pytest.raises(UserError, match=r"is a folder; name a file in it"):
        own_corpus(str(tmp_path / "a.csv"), None, "t", "l")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in folders")
def test_a_pipe_is_read_once_or_not_at_all(tmp_path):
    """A table is read more than once, for its quotation marks and rows, and would wait for a second writer."""
    for name in ("a.csv", "a.tsv", "a.json", "a.jsonl", "a.parquet"):
        os.mkfifo(tmp_path / name)
        assert refusal(tmp_path / name, "t").startswith(" is a pipe or a device, which can be read only once.")
    for call in (lambda p: own_corpus(p, None, "t", "l"), lambda p: find_unlabelled(p, "t", None)):
        with pytest.raises(UserError, match="is a pipe or a device"):
            call(str(tmp_path / "a.csv"))
    os.mkfifo(tmp_path / "a.txt")
    writer = threading.Thread(target=(tmp_path / "a.txt").write_text, args=("one\ntwo\n",))
    writer.start()
    assert texts_of(tmp_path / "a.txt") == ["one", "two"]
    writer.join()


def test_files_of_the_original_elmo_that_are_of_another_kind(tmp_path):
    (tmp_path / "options.json").write_bytes(b"\xef\xbb\xbf{}")
    with pytest.raises(UserError, match="lacks 'char_cnn'"):  # the byte order mark is skipped
        read_original(tmp_path / "options.json", tmp_path)
    (tmp_path / "weights.zip").write_bytes(b"PK\x03\x04\x14\x00\x00\x00")
    for options, result in ((tmp_path, "is a folder"), (tmp_path / "weights.zip", "is a ZIP archive")):
        with pytest.raises(UserError, match=result):
            read_original(options, tmp_path)
    from original_files import OPTIONS

    (tmp_path / "options.json").write_text(json.dumps(OPTIONS), encoding="utf-8-sig")
    for weights, result in ((tmp_path, "is a folder"), (tmp_path / "weights.zip", "is a ZIP archive.*one HDF5 file")):
        with pytest.raises(UserError, match=result):
            read_original(tmp_path / "options.json", weights)


HF = [("Wall St. falls, traders said.", 2), ('The "cup"\nfinal', 1), ("Peace", 0), ("Chips", 3)]


def write_hf(path: Path, text_first: bool = False) -> Path:
    """Write a file as the datasets library exports it."""
    columns = {"text": [text for text, _ in HF], "label": [label for _, label in HF]}
    frame = pandas.DataFrame({name: columns[name] for name in sorted(columns, reverse=not text_first)})
    path.parent.mkdir(exist_ok=True)
    if ".parquet" in path.name:
        parquet(path, **columns)
    elif ".csv" in path.name:
        frame.to_csv(path, index=text_first)
    else:
        frame.to_json(path, orient="records", lines=True)
    return path


@pytest.mark.parametrize("text_first", [False, True])
@pytest.mark.parametrize(
    "name", ["{}.csv", "{}.csv.gz", "{}.json", "{}.jsonl", "{}.parquet", "data/{}-00000-of-00001.parquet"]
)
def test_ag_news_of_the_datasets_library(tmp_path, name, text_first):
    for split in ("train", "test"):
        write_hf(tmp_path / name.format(split), text_first)
    corpus = find_corpus(str(tmp_path))
    for split in ("train", "test"):
        assert corpus.path(split) == tmp_path / name.format(split)
        assert list(corpus.source(split, None).rows()) == [(label, text) for text, label in HF]


def test_csv_has_precedence_and_a_missing_file_is_named(tmp_path):
    write_hf(tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"there is no test\.csv in .*one file for each that ends in \.tsv"):
        find_corpus(str(tmp_path))
    for split in ("train", "test"):
        write_hf(tmp_path / f"{split}.csv")
    assert find_corpus(str(tmp_path)).train.name == "train.csv"
    (tmp_path / "train.csv").write_text("text,label\nx,4\n")
    with pytest.raises(
        UserError, match=r"row 2 \(line 2\), column 'label': '4' is not a class; the classes are 0 to 3"
    ):
        list(read_ag_news(tmp_path / "train.csv"))
    (tmp_path / "train.csv").write_text("review,stars\nx,4\n")
    with pytest.raises(UserError, match=r"'text,label'.*texts of your own"):
        list(read_ag_news(tmp_path / "train.csv"))


CLASSES = ["a, b", 'c "d"', "é\r"]


def written(form: str, texts: list[str], encoding: str = "ascii") -> bytes:
    """Return the output of `predict` on a terminal with this encoding."""
    out = io.BytesIO()
    with redirect_stdout(io.TextIOWrapper(out, encoding)) as stream:
        write = Writer(form, CLASSES)
        for i, text in enumerate(texts):
            write(text, np.eye(3)[i % 3])
        stream.flush()
        return out.getvalue()


@one_folder
@given(texts=st.lists(any_text, max_size=8))
@example(
    texts=[
        "first half\rsecond half",
        "\r",
        "a\r\nb",
        "\n",
        "",
        " ",
        "a\0b",
        "NA",
        "null",
        "1e5",
        "\ufeff",
        '"',
        "\x85\u2028",
    ]
)
def test_output_of_predict_can_be_read_back(tmp_path, texts):
    path = tmp_path / "output.csv"
    path.write_bytes(written("csv", texts))
    expected = [CLASSES[i % 3] for i in range(len(texts))]
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    assert header == ["class", *CLASSES, "text"] and [row[-1] for row in rows] == texts
    for column, cells in (("text", texts), ("class", expected)):
        assert texts_of(path, column) == cells
        if PANDAS_READS_NUL or not any("\0" in text for text in texts):
            frame = pandas.read_csv(path, dtype=str, keep_default_na=False)
            assert frame[column].tolist() == cells
    path = tmp_path / "output.jsonl"
    path.write_bytes(written("jsonl", texts))
    lines = path.read_bytes().split(b"\n")[:-1]
    assert [json.loads(line)["text"] for line in lines] == texts_of(path, "text") == texts
    assert texts_of(path, "class") == expected
    if texts:
        assert pandas.read_json(path, lines=True, dtype=str)["text"].tolist() == texts


@given(texts=st.lists(any_text, max_size=8))
@example(texts=["a\rb\nc\x85d\u2028e", "東 é", "x" * 200])
def test_a_table_has_one_line_per_text_on_any_terminal(texts):
    for encoding in ("ascii", "cp1252", "utf-8"):
        table = written("table", texts, encoding).decode(encoding)
        assert len(table.splitlines()) == table.count("\n") == len(texts) + 1


@one_folder
@given(texts=st.lists(any_text, max_size=4, unique=True))
def test_texts_of_vector_files_can_be_read_back(tmp_path, texts):
    result = [(text, text.split() or ["-"], np.zeros((3, len(text.split() or "-"), 2), np.float32)) for text in texts]
    write_vectors(tmp_path / "x.hdf5", result)
    with h5py.File(tmp_path / "x.hdf5") as file:
        assert json.loads(file["sentence_to_index"][0]) == {text.strip(): str(i) for i, text in enumerate(texts)}
    safetensors = pytest.importorskip("safetensors.numpy")
    write_vectors(tmp_path / "x.safetensors", result)
    tensors = safetensors.load_file(tmp_path / "x.safetensors")
    assert json.loads(bytes(tensors["texts"])) == texts
    assert json.loads(bytes(tensors["words"])) == [words for _, words, _ in result]
    pytest.importorskip("pyarrow")
    write_vectors(tmp_path / "x.parquet", result, layers=["e0", "e1", "e2"])
    frame = pandas.read_parquet(tmp_path / "x.parquet")
    assert frame["text"].tolist() == texts == texts_of(tmp_path / "x.parquet", "text")
    assert not texts or [list(words) for words in frame["words"]] == [words for _, words, _ in result]


@one_folder
@given(rows=st.lists(st.tuples(any_text, any_text), min_size=1, max_size=6), delimiter=st.sampled_from(",\t"))
def test_what_csv_and_pandas_write_is_read(tmp_path, rows, delimiter):
    """Also a lone carriage return without quotes, which both write; for TSV, only cells on one line."""
    path = tmp_path / f"a{'.csv' if delimiter == ',' else '.tsv'}"
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_ALL
    if delimiter == ",":  # a carriage return before a line feed, without quotes, belongs to the line end
        rows = [(a, b.rstrip("\r")) for a, b in rows]
    else:  # cells over several lines leave open whether quotation marks quote
        rows = [(a.replace("\n", ""), b.replace("\n", "")) for a, b in rows]
    pandas.DataFrame(rows, columns=["a", "b"]).to_csv(
        path, sep=delimiter, index=False, quoting=quoting, lineterminator="\n"
    )
    assert texts_of(path, "a") == [a for a, _ in rows] and texts_of(path, "b") == [b for _, b in rows]


def test_a_table_does_not_grow_in_memory(tmp_path):
    """Rows are returned before the file has been read to its end, which is damaged here."""
    (tmp_path / "a.csv").write_text("t\n" + "x\n" * 50_000 + '"')
    rows = Table(tmp_path / "a.csv", ["t"]).rows()
    assert next(rows) == (2, ["x"])


def test_pandas_is_imported_for_tables_only():
    code = "import sys, bilm.cli.predict, bilm.text.readers, bilm.text.corpus; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(("columns", "read"), [(["1"], "a.csv"), (["0"], "a.csv"), (["1", "2"], "a.tsv")])
def test_a_header_of_numbers_is_refused(tmp_path, columns, read):
    """Named by number, columns have no header; pandas writes one for columns without names."""
    separator = "\t" if read.endswith("tsv") else ","
    pandas.DataFrame({0: ["some text", "more"], 1: [1, 2]}).to_csv(tmp_path / read, index=False, sep=separator)
    with pytest.raises(UserError, match=r"first row, '0, 1', is a header of numbers"):
        list(Table(tmp_path / read, columns).rows())


@pytest.mark.parametrize("end", [b"", b"\r", b"\n", b"\r\n", b"\r\n\n"])
@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.csv", b"text,label\rGood film,pos\rBad film,neg", ["text", "label", "1", "2"]),
        ("a.csv", b"text;label\rGood film;pos\rBad film;neg", ["text", "label"]),
        ("a.csv", b'label,text\rpos,"Good, film"\rneg,"Bad\nfilm"', ["text", "label", "1", "2"]),
        ("a.csv", b"text\rGood film\rBad film", ["text", "1"]),
        ("a.csv", b"Good film,1", ["1"]),
        ("a.tsv", b'text\tlabel\rGood "film"\tpos\r"Bad" film\tneg', ["text", "label", "1"]),
    ],
)
def test_lines_of_a_macintosh_are_refused(tmp_path, name, content, columns, end):
    (tmp_path / name).write_bytes(content + end)
    for column in columns if b"\r" in content or end == b"\r" else ():
        assert refusal(tmp_path / name, column).startswith(": its lines end in carriage returns alone")


@pytest.mark.parametrize(
    ("content", "column", "texts"),
    [
        (b"text,label\n", "text", []),
        (b"text,label\r\nGood\rfilm,pos\r\n", "text", ["Good\rfilm"]),
        (b'"Good\rfilm",pos\n', "1", ["Good\rfilm"]),
        (b'"Good\rfilm",pos', "1", ["Good\rfilm"]),
        (b"Good\rfilm,pos\nBad film,neg\n", "1", ["Good\rfilm", "Bad film"]),
        (b"Good film,pos\nBad\rfilm,neg\n", "1", ["Good film", "Bad\rfilm"]),
    ],
)
def test_carriage_returns_of_texts_are_read(tmp_path, content, column, texts):
    (tmp_path / "a.csv").write_bytes(content)
    assert texts_of(tmp_path / "a.csv", column) == texts


def test_a_class_of_another_type_is_named(tmp_path):
    pandas.DataFrame({"t": ["a", "b"], "c": [b"x", b"y"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"row 1, column 'c'.* it is bytes, which names no class"):
        read_classes(tmp_path / "a.parquet", Columns("t", "c"))


def test_a_number_of_many_digits_is_a_class(tmp_path):
    """Python converts no more than 4,300 digits to a number."""
    long = "9" * 5000
    (tmp_path / "a.csv").write_text(f"t,c\none,{long}\ntwo,10\nthree,9\n")
    assert read_classes(tmp_path / "a.csv", Columns("t", "c")) == ("10", "9", long)
    assert " has no column '9" in refusal(tmp_path / "a.csv", long)
    (tmp_path / "a.jsonl").write_text(f'{{"t": "one", "c": {long}}}\n')
    assert ", line 1: it is not JSON" in refusal(tmp_path / "a.jsonl", "t")
