"""Texts from a file or standard input, one after the other: lines, or a column of a file that has columns."""

import io
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from bilm.errors import UserError
from bilm.records import KINDS, has_columns, read_records

STDIN = "-"
T = TypeVar("T")


def read_texts(source: str, column: str | None, doing: str = "") -> Iterator[str]:
    """source: path of a file, or "-" for standard input. Of a file with columns (see records.py) `column` is read; all
    else has a text a line.

    doing: for a progress bar. Raises UserError naming file, row and column of what is wrong.
    """
    columned = source != STDIN and has_columns(source)
    if column is None and columned:
        raise UserError(f"{source} has columns; name that of the texts: --column NAME.")
    if column is not None and not columned:
        raise UserError(f"--column is for files that end in {', '.join(KINDS)}; {source} is read line by line.")
    if columned:
        for where, (cell,) in read_records(source, [str(column)], doing):
            yield text_of(cell, where, str(column))
        return
    try:
        with _opened(source) as file:
            yield from (line.rstrip("\r\n") for line in file)
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not UTF-8 ({error.reason}). Save it as UTF-8.") from error
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}.") from error


def text_of(cell: object, where: str, column: str) -> str:
    """Raises UserError where a cell is no text."""
    if not isinstance(cell, str):
        raise UserError(f"{where}: there is no text {column!r}.")
    return whole(cell)


def _opened(source: str) -> io.TextIOWrapper:
    if source == STDIN:
        return io.TextIOWrapper(sys.stdin.buffer, "utf-8-sig", newline="\n")
    return Path(source).open(encoding="utf-8-sig")


def whole(text: str) -> str:
    """`text` with "?" in place of halves of characters, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def in_portions(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Lists of at most `size` of them, in order."""
    iterator = iter(items)
    while portion := list(itertools.islice(iterator, size)):
        yield portion
