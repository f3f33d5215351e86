"""Texts from a file or standard input, one after the other: lines, or a column of a CSV, TSV or JSON lines file."""

import csv
import io
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

from bilm.errors import UserError

STDIN = "-"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson")
T = TypeVar("T")


def read_texts(source: str, column: str | None) -> Iterator[str]:
    """source: path of a file, or "-" for standard input. What ends in .csv, .tsv or .jsonl has columns, of which
    `column` is read (its name, or its number from 1 where a CSV has no header); all else has a text a line.

    Raises UserError naming file, row and column of what is wrong.
    """
    kind = Path(source).suffix.lower() if source != STDIN else ""
    if column is None and kind in (*_DELIMITERS, *_JSON):
        raise UserError(f"{source} has columns; name that of the texts: --column NAME.")
    if column is not None and kind not in (*_DELIMITERS, *_JSON):
        raise UserError(f"--column is for files that end in .csv, .tsv or .jsonl; {source} is read line by line.")
    try:
        with _opened(source) as file:
            if kind in _DELIMITERS:
                yield from _column_of_csv(file, source, _DELIMITERS[kind], str(column))
            elif kind in _JSON:
                yield from _column_of_json(file, source, str(column))
            else:
                yield from (line.rstrip("\r\n") for line in file)
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not UTF-8 ({error.reason}). Save it as UTF-8.") from error
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}.") from error


def _opened(source: str) -> TextIO:
    if source == STDIN:
        return io.TextIOWrapper(sys.stdin.buffer, "utf-8-sig", newline="\n")
    return open(source, encoding="utf-8-sig", newline="" if Path(source).suffix.lower() in _DELIMITERS else None)


def _column_of_csv(file: TextIO, source: str, delimiter: str, column: str) -> Iterator[str]:
    """`column`: a name in the first row, or a number from 1; then the first row is a text like the others."""
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(file, delimiter=delimiter, strict=True)
    place = None
    try:
        for number, row in enumerate(rows, start=1):
            if not row:
                continue  # a blank line
            if place is None:
                named = not column.isdecimal()
                if named and column not in row:
                    cells = ", ".join(row)[:200]
                    raise UserError(f"{source} has no column {column!r}. The cells of its first row are: {cells}")
                place = row.index(column) if named else int(column) - 1
                if named:
                    continue
            if not 0 <= place < len(row):
                raise UserError(f"{source}, row {number}: it has no column {column!r}, but {len(row)} columns.")
            yield row[place]
    except csv.Error as error:
        raise UserError(f"{source}, line {rows.line_num}: {error}. A quote that is not closed?") from error


def _column_of_json(file: TextIO, source: str, column: str) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            found: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{source}, line {number}: it is not JSON ({error}).") from error
        if not isinstance(found, dict) or not isinstance(found.get(column), str):
            raise UserError(f"{source}, line {number}: there is no text {column!r}.")
        yield whole(found[column])


def whole(text: str) -> str:
    """`text` with "?" in place of halves of characters, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def in_portions(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Lists of at most `size` of them, in order."""
    iterator = iter(items)
    while portion := list(itertools.islice(iterator, size)):
        yield portion
