"""Texts and tables of files: CSV, TSV, JSON lines and Parquet by the end of the name, a text a line in all else.

Rows come one after the other, so that memory does not grow with the file. Every error names the place in the file, and
what to do.
"""

import csv
import io
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from bilm.runtime.errors import UserError
from bilm.runtime.files import data_name, open_bytes
from bilm.text.text_rules import decoded_lines, without_line_end

STDIN = "-"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_PARQUET = ".parquet"
KINDS = (*_DELIMITERS, ".jsonl", ".ndjson", ".json", _PARQUET)
# Rows that are held at once.
_CHUNK = 1024
# A cell that is quoted as the csv module quotes it.
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
# The csv module takes a lone carriage return for the end of a row. It is shown this half of a surrogate pair instead,
# which no UTF-8 file can hold.
_CARRIAGE_RETURN = "\udc0d"
_LONE_CARRIAGE_RETURN = re.compile(r"\r(?!\n)")
_TYPES = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a record", bytes: "bytes"}
T = TypeVar("T")


def has_columns(path: str | Path) -> bool:
    return data_name(path).suffix.lower() in KINDS


class Table:
    """Some columns of a CSV, TSV, JSON lines or Parquet file.

    columns: their names; of a CSV or TSV also their numbers from 1, and where all are numbered, there is no header. Or
    a function that gives them when it is given the cells of the first row, of JSON and Parquet the names of columns.
    """

    def __init__(self, path: str | Path, columns: Sequence[str] | Callable[[Sequence[str]], Sequence[str]]):
        self.path = Path(path)
        self.kind = data_name(path).suffix.lower()
        self._choose = columns if callable(columns) else lambda first: columns
        self.columns: Sequence[str] = ()

    def rows(self, label: str = "") -> Iterator[tuple[int, Sequence[Any]]]:
        """Number of the row (of JSON: of the line), from 1, and its cells in `columns`.

        Cells of a CSV or TSV are strings, those of other files what they are in them. label: see files.open_bytes.
        Raises UserError naming the place of what is wrong.
        """
        read = {".csv": self._csv_rows, ".tsv": self._csv_rows, _PARQUET: self._parquet_rows}.get(self.kind)
        with open_bytes(self.path, label) as file:
            yield from (read or self._json_rows)(file)

    def error(self, number: int, message: str, column: str | None = None) -> UserError:
        """A mistake in the row of that number."""
        where = "row" if self.kind in (*_DELIMITERS, _PARQUET) else "line"
        lines = (line for row, line, _ in self._csv_structure() if row == number) if self.kind in _DELIMITERS else ()
        place = "".join([f"{self.path}, {where} {number}", *(f" (line {line})" for line in lines)])
        name = column if column is None or column.isdecimal() else repr(column)
        return UserError(f"{place}{f', column {name}' if name else ''}: {message}")

    def text(self, number: int, cell: Any, column: str) -> str:
        """`cell` of that row, which should be a text. Raises UserError where it is not."""
        if isinstance(cell, str):
            return cell
        found = "there is no text" if cell is None else f"it is {_TYPES.get(type(cell), type(cell).__name__)}, not text"
        raise self.error(number, f"{found}. Fill it, convert it to text, or remove the row.", column)

    def _csv_rows(self, file: io.BufferedIOBase) -> Iterator[tuple[int, Sequence[Any]]]:
        import pandas

        first, cells = next(((number, cells) for number, _, cells in self._csv_structure() if cells), (0, []))
        if not cells:
            return
        self.columns, width = self._choose(cells), len(cells)
        named = not all(column.isdecimal() for column in self.columns)
        positions = [self._position(column, cells, named) for column in self.columns]
        try:
            # The Python engine checks quotation marks, and tells a missing cell (NaN) from an empty one. One column
            # more than there should be shows rows that are too long.
            chunks = pandas.read_csv(
                _CsvLines(decoded_lines(file, self.path)),
                sep=_DELIMITERS[self.kind],
                quoting=self._quoting(),
                engine="python",
                header=None,
                names=range(width + 1),
                index_col=False,
                dtype=object,
                keep_default_na=False,
                skip_blank_lines=False,
                chunksize=_CHUNK,
            )
            for chunk in chunks:
                blank = chunk[0].isna()
                if (chunk[width - 1].isna() != blank).any() or chunk[width].notna().any():
                    self._raise_structure_error(width, "rows of different lengths")
                chunk = chunk[~blank]
                selected = zip(*([_restored(cell) for cell in chunk[p]] for p in positions), strict=True)
                for number, row in zip((chunk.index + 1).tolist(), selected, strict=True):
                    if number > first or not named:
                        yield number, row
        except (pandas.errors.ParserError, csv.Error) as error:
            self._raise_structure_error(width, str(error))

    def _position(self, column: str, first: Sequence[str], named: bool = True) -> int:
        if named and column in first:
            if first.count(column) > 1:
                raise UserError(f"{self.path} has {first.count(column)} columns {column!r}. Rename the others.")
            return first.index(column)
        if self.kind in _DELIMITERS and column.isdecimal() and 1 <= int(column) <= len(first):
            return int(column) - 1
        raise UserError(f"{self.path} has no column {column!r}. Its first row has: {', '.join(first)[:200]!r}.")

    def _csv_structure(self) -> Iterator[tuple[int, int, list[str]]]:
        """Number, first line and all cells of each row, by the csv module: for messages, since pandas has no lines.

        Raises UserError where quotation marks do not match.
        """
        csv.field_size_limit(2**31 - 1)
        with open_bytes(self.path) as file:
            lines = _CsvLines(decoded_lines(file, self.path))
            rows = csv.reader(lines, delimiter=_DELIMITERS[self.kind], quoting=self._quoting(), strict=True)
            number, line = 0, 1
            try:
                for number, cells in enumerate(rows, start=1):
                    yield number, line, [_restored(cell) for cell in cells]
                    line = rows.line_num + 1
            except csv.Error as error:
                raise UserError(
                    f"{self.path}, row {number + 1} (line {line}): a quotation mark that opens a cell is not closed, "
                    f"or text follows the one that closes it ({error}). Put quoted cells into quotation marks as a "
                    "whole and double those inside; if the file was cut off, copy or download it again."
                ) from error

    def _raise_structure_error(self, width: int, reason: str) -> NoReturn:
        for number, line, cells in self._csv_structure():
            if cells and len(cells) != width:
                raise UserError(
                    f"{self.path}, row {number} (line {line}): {len(cells)} columns where the first row has {width}: a "
                    f"{'tab' if self.kind == '.tsv' else 'comma'} without quotes, or a cut file?"
                )
        raise UserError(f"{self.path} cannot be read: {reason}.")

    def _quoting(self) -> Any:
        """Of a TSV: whether quotation marks at the start of a cell quote it, or are part of the text.

        They are part of it where all lines have as many cells, and marks that open a cell are not closed in it.
        """
        if self.kind != ".tsv":
            return csv.QUOTE_MINIMAL
        widths, opens, open_line = set(), False, 0
        with open_bytes(self.path) as file:
            for number, line in enumerate(map(without_line_end, decoded_lines(file, self.path)), start=1):
                widths |= {line.count("\t") + 1} if line else set()
                if '"' in line and (marked := [cell for cell in line.split("\t") if cell.startswith('"')]):
                    opens = True
                    open_line = open_line or (0 if all(map(_QUOTED.fullmatch, marked)) else number)
        if open_line and widths == {1}:
            raise UserError(
                f"{self.path}, line {open_line}: a quotation mark opens a cell and is not closed in this line, so that "
                "where the cell ends cannot be told. Remove the mark, or save the file as CSV."
            )
        return csv.QUOTE_MINIMAL if opens and not (open_line and len(widths) == 1) else csv.QUOTE_NONE

    # Not pandas.read_json(lines=True): it makes two rows of a line with two objects, drops halves of surrogate pairs,
    # turns 4 into 4.0 when the next line has 4.5, and its errors name no line.
    def _json_rows(self, file: io.BufferedIOBase) -> Iterator[tuple[int, Sequence[Any]]]:
        for number, line in enumerate(decoded_lines(file, self.path), start=1):
            if not (line := line.strip(" \t\r\n")):
                continue
            found, reason = None, "it is no JSON object"
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = f"it is not JSON ({getattr(error, 'msg', error)}, column {getattr(error, 'colno', 1)})"
            if not isinstance(found, dict):
                raise self.error(number, f"{reason}. Write one object on each line: {{...}}.")
            self.columns = self.columns or self._choose(list(found))
            cells = map(found.get, self.columns)
            yield number, [replace_surrogates(cell) if isinstance(cell, str) else cell for cell in cells]

    def _parquet_rows(self, file: io.BufferedIOBase) -> Iterator[tuple[int, Sequence[Any]]]:
        try:
            from pyarrow import lib, parquet
        except ImportError:
            raise UserError(f"{self.path}: Parquet needs the package pyarrow: python -m pip install pyarrow") from None
        number = 0
        try:
            content = parquet.ParquetFile(file)
            names = content.schema_arrow.names
            self.columns = self._choose(names)
            selected = {names[self._position(column, names)] for column in self.columns}
            for batch in content.iter_batches(_CHUNK, columns=list(selected)):
                cells = zip(*(batch.column(column).to_pylist() for column in self.columns), strict=True)
                yield from enumerate(cells, start=number + 1)
                number += batch.num_rows
        except (lib.ArrowException, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.path} cannot be read as Parquet, after row {number}: {reason}") from error


class _CsvLines(io.TextIOBase):
    """Lines for the csv module, in which a lone carriage return ends no row."""

    def __init__(self, lines: Iterator[str]):
        self._lines = lines

    def __next__(self) -> str:  # type: ignore[override]
        line = next(self._lines)
        return _LONE_CARRIAGE_RETURN.sub(_CARRIAGE_RETURN, line) if "\r" in line else line


def _restored(cell: str) -> str:
    return cell.replace(_CARRIAGE_RETURN, "\r")


def read_texts(source: str, column: str | None, label: str = "") -> Iterator[str]:
    """The texts of `column` of a file with columns, else the lines of a file, or of standard input ("-").

    label: see files.open_bytes. Raises UserError naming the place of what is wrong.
    """
    if source != STDIN:
        check_column(source, column, "column")
    elif column is not None:
        raise UserError("standard input is read line by line and has no columns.", "column")
    if column is not None:
        table = Table(source, [column])
        yield from (table.text(number, cell, column) for number, (cell,) in table.rows(label))
        return
    with nullcontext(sys.stdin.buffer) if source == STDIN else open_bytes(source, label) as file:
        yield from map(without_line_end, decoded_lines(file, source))


def check_column(path: str, column: str | None, parameter: str) -> None:
    """Raises UserError, with this `parameter`, where a file with columns has none chosen, or lines have one."""
    if has_columns(path) and column is None:
        raise UserError(f"{path} has columns; name the one with the texts.", parameter)
    if column is not None and not has_columns(path):
        raise UserError(f"{path} is read line by line; only files in {', '.join(KINDS)} have columns.", parameter)


def replace_surrogates(text: str) -> str:
    """`text` with "?" in place of halves of surrogate pairs, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def sample_evenly(path: Path, rows: Callable[[str], Iterator[T]], limit: int | None) -> Iterator[T]:
    """At most `limit` of the rows of a file, evenly spaced, so that one that is sorted by class gives all classes.

    rows: given the label of a progress bar, all of them; called twice where there is a limit. Raises UserError when
    there are none.
    """
    index, chosen = None, None
    if limit is not None and limit < (total := sum(1 for _ in rows("counting the rows of"))):
        chosen = set(np.linspace(0, total - 1, limit).astype(np.int64).tolist())
    for index, row in enumerate(rows("reading")):
        if chosen is None or index in chosen:
            yield row
    if index is None:
        raise UserError(f"{path} has no rows.")


def batched(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Lists of at most `size` of them, in order."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
