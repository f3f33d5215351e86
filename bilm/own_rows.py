"""The rows of a user's own file: a column of texts, and a column of classes of any names and number."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bilm.errors import UserError
from bilm.records import evenly, read_records
from bilm.text_input import read_texts, text_of, whole

# The label of a text that has none.
NO_LABEL = -1
# With more classes than this, and more than half as many as rows, it is another column than that of the classes.
_MANY = 100


@dataclass(frozen=True)
class Columns:
    """By name, or by number from 1. text: None where a line is a text; label: None where there are none."""

    text: str | None
    label: str | None


def own_rows(
    path: Path, columns: Columns, classes: Sequence[str], limit: int | None = None
) -> Iterator[tuple[int, str]]:
    """Place of the label among `classes`, NO_LABEL where there is no column of them, and text, of every row.

    At most `limit` rows, as csv_rows.read_rows takes them. Raises UserError naming file, row and column of what is
    wrong, wherever in the file that is.
    """
    return evenly(partial(_all_rows, path, columns, {name: i for i, name in enumerate(classes)}), limit)


def _all_rows(path: Path, columns: Columns, numbers: dict[str, int], doing: str) -> Iterator[tuple[int, str]]:
    found = False
    for label, text in _labelled(path, columns, numbers, doing) if columns.label else _unlabelled(path, columns, doing):
        found = True
        yield label, text
    if not found:
        raise UserError(f"{path} has no rows.")


def _labelled(path: Path, columns: Columns, numbers: dict[str, int], doing: str) -> Iterator[tuple[int, str]]:
    text_column, label_column = str(columns.text), str(columns.label)
    for where, (said, named) in read_records(path, [text_column, label_column], doing):
        text, label = text_of(said, where, text_column), _label(named, where, label_column)
        if not text.strip():
            raise UserError(f"{where}, column {text_column!r}: it is empty. Fill it or remove the row.")
        if label not in numbers:
            some = ", ".join(numbers)
            some = some if len(some) < 80 else some[:80] + " ..."
            raise UserError(
                f"{where}, column {label_column!r}: no row that is trained on is of class {label[:80]!r}; they are "
                f"{some}. Remove the row, or train with such rows."
            )
        yield numbers[label], text


def _unlabelled(path: Path, columns: Columns, doing: str) -> Iterator[tuple[int, str]]:
    """Texts of nothing but blanks are passed over: no label depends on them."""
    texts = read_texts(str(path), columns.text, doing)
    return ((NO_LABEL, text) for text in texts if text.strip())


def _label(cell: object, where: str, column: str) -> str:
    """A class by its name; numbers are called as they are written."""
    known = isinstance(cell, str | int) or (isinstance(cell, float) and math.isfinite(cell))
    label = whole(str(cell).strip()) if known else ""
    if not label:
        raise UserError(f"{where}, column {column!r}: there is no class. Fill it or remove the row.")
    return label


def read_classes(path: Path, columns: Columns) -> tuple[str, ...]:
    """The names of the classes of a file, sorted: numbers as numbers. Raises UserError where they are none."""
    found: set[str] = set()
    rows, column = 0, str(columns.label)
    # Both columns, as in own_rows: whether there is a header depends on both.
    for where, (_, cell) in read_records(path, [str(columns.text), column], "reading the classes of"):
        found.add(_label(cell, where, column))
        rows += 1
    if rows and len(found) < 2:
        raise UserError(f"{path}, column {column!r}: all rows are of class {found.pop()!r}; there is nothing to learn.")
    if len(found) > max(_MANY, rows / 2):
        raise UserError(
            f"{path}, column {column!r}: {len(found):,} different values in {rows:,} rows. Is it the column of the "
            "classes?"
        )
    numeric = all(name.isdecimal() for name in found)
    return tuple(sorted(found, key=(lambda name: (int(name), name)) if numeric else str))
