"""The rows of a user's own file: a column of texts, and a column of classes of any names and number."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bilm.runtime.errors import UserError
from bilm.text.readers import Table, read_texts, sample_evenly

# The label of a text that has none.
NO_LABEL = -1
# With more classes than this, and more than half as many as rows, it is another column than that of the classes.
_MANY = 100


@dataclass(frozen=True)
class Columns:
    """By name, or by number from 1. text: None where a line is a text; label: None where there are none."""

    text: str | None
    label: str | None


def read_custom_dataset(
    path: Path, columns: Columns, classes: Sequence[str], limit: int | None = None
) -> Iterator[tuple[int, str]]:
    """Index of the label in `classes`, NO_LABEL where there is no column of labels, and text, of every row.

    At most `limit` rows, as ag_news.read_ag_news takes them. Raises UserError naming file, row and column of what is
    wrong, wherever in the file that is.
    """
    return sample_evenly(path, partial(_all_rows, path, columns, {name: i for i, name in enumerate(classes)}), limit)


def _all_rows(path: Path, columns: Columns, indices: dict[str, int], progress_label: str) -> Iterator[tuple[int, str]]:
    if columns.label:
        return _labelled(path, columns, indices, progress_label)
    # Texts of nothing but blanks are passed over: no label depends on them.
    texts = read_texts(str(path), columns.text, progress_label)
    return ((NO_LABEL, text) for text in texts if text.strip())


def _labelled(path: Path, columns: Columns, indices: dict[str, int], progress_label: str) -> Iterator[tuple[int, str]]:
    table = Table(path, (str(columns.text), str(columns.label)))
    for number, (cell, named) in table.rows(progress_label):
        text, label = table.text(number, cell, str(columns.text)), _label(table, number, named)
        if not text.strip():
            raise table.error(number, "it is empty. Fill it or remove the row.", columns.text)
        if label not in indices:
            some = ", ".join(indices)
            some = some if len(some) < 80 else some[:80] + " ..."
            raise table.error(
                number,
                f"no row that is trained on is of class {label[:80]!r}; they are {some}. Remove the row, or train with "
                "such rows.",
                columns.label,
            )
        yield indices[label], text


def _label(table: Table, number: int, cell: object) -> str:
    """A class by its name; numbers are called as they are written."""
    known = isinstance(cell, str | int) or (isinstance(cell, float) and math.isfinite(cell))
    label = str(cell).strip() if known else ""
    if not label:
        raise table.error(number, "there is no class. Fill it or remove the row.", table.columns[1])
    return label


def read_classes(path: Path, columns: Columns) -> tuple[str, ...]:
    """The names of the classes of a file, sorted: numbers as numbers. Raises UserError where they are none."""
    # Both columns, as in read_custom_dataset: whether there is a header depends on both.
    table = Table(path, (str(columns.text), str(columns.label)))
    found = Counter(_label(table, number, cell) for number, (_, cell) in table.rows("reading the classes of"))
    if len(found) == 1:
        raise UserError(
            f"{path}, column {columns.label!r}: all rows are of class {min(found)!r}; there is nothing to learn."
        )
    if len(found) > max(_MANY, found.total() / 2):
        raise UserError(
            f"{path}, column {columns.label!r}: {len(found):,} different values in {found.total():,} rows. Is it the "
            "column of the classes?"
        )
    numeric = all(name.isdecimal() for name in found)
    return tuple(sorted(found, key=(lambda name: (int(name), name)) if numeric else str))
