"""The rows of a user's own file: one column of texts, and one of classes with any names, in any number."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from bilm.runtime.errors import UserError
from bilm.text.ag_news import CLASS_NAMES
from bilm.text.readers import Table, describe_type, read_texts, sample_evenly
from bilm.text.text_rules import ASCII_BLANKS, JOINERS, character_classes, collapse_blanks, composed

# The label of a text without one.
NO_LABEL = -1
# A column with more distinct values than this, and more than half as many as rows, is not accepted as the classes.
_MANY = 100
# Python can be set to convert no more digits than these to a number, but to no fewer; longer names are sorted as text.
_DIGITS = 640


class NoClass(UserError):
    """A row has no class."""


@dataclass(frozen=True)
class Columns:
    """Columns by name, or by number from 1. text: None if each line is a text; label: None if texts have no labels."""

    text: str | None
    label: str | None


def read_custom_dataset(
    path: Path, columns: Columns, classes: Sequence[str], limit: int | None = None
) -> Iterator[tuple[int, str]]:
    """Yield label and text of every row, or of `limit` evenly spaced rows.

    The label is an index into `classes`, or NO_LABEL if there is no column of labels. Raises UserError with file, row
    and column of the first mistake, which may come after valid rows.
    """
    labelled = partial(_labelled_rows, path, columns, {name: i for i, name in enumerate(classes)})
    return sample_evenly(path, labelled if columns.label else partial(_unlabelled_rows, path, columns), limit)


def _unlabelled_rows(path: Path, columns: Columns, progress_label: str) -> Iterator[tuple[int, str]]:
    """Texts that show nothing are skipped: no label is lost with them."""
    return ((NO_LABEL, text) for text in read_texts(str(path), columns.text, progress_label) if not _is_empty(text))


def _labelled_rows(
    path: Path, columns: Columns, indices: dict[str, int], progress_label: str
) -> Iterator[tuple[int, str]]:
    table = Table(path, (str(columns.text), str(columns.label)))
    for number, (text_cell, label_cell) in table.rows(progress_label):
        text = table.require_text(number, text_cell, table.columns[0])
        label = _class_name(table, number, label_cell)
        if _is_empty(text):
            raise table.error(number, "it is empty. Fill it in or remove the row.", columns.text)
        if label not in indices:
            similar = (name for name in indices if name.casefold() == label.removesuffix(".0").casefold())
            advice = "".join(f"Did you mean {name!r}? " for name in similar)
            advice += "Correct it, remove the row, or train with such rows."
            if label.isdecimal() and tuple(indices) == CLASS_NAMES:
                advice = "A file in a form of AG News, with numbers, is read without naming its columns."
            message = f"{label[:80]!r} is not among the classes trained on: {', '.join(indices):.80}. {advice}"
            raise table.error(number, message, columns.label)
        yield indices[label], text


def _is_empty(text: str) -> bool:
    """Whether a text consists of blanks and joiners; see text_rules."""
    return bool(_invisible().fullmatch(text))


@cache
def _invisible() -> re.Pattern[str]:
    return re.compile(f"[{ASCII_BLANKS}{character_classes().blanks}{JOINERS}]*")


def _class_name(table: Table, number: int, cell: object) -> str:
    """Return the name of a class; the name of a number is the number as a string.

    Names that look alike are one: with letters composed or not, and with any blanks between words and at the ends.
    """
    is_name = isinstance(cell, str | int) or (isinstance(cell, float) and math.isfinite(cell))
    if not is_name and not (cell is None or isinstance(cell, float)):
        raise table.error(
            number,
            f"it is {describe_type(cell)}, which names no class. Convert the column to text or to integers.",
            table.columns[1],
        )
    label = collapse_blanks(composed(str(cell))) if is_name else ""
    if _is_empty(label):
        raise NoClass(str(table.error(number, "there is no class. Fill it in or remove the row.", table.columns[1])))
    return label


def read_classes(path: Path, columns: Columns) -> tuple[str, ...]:
    """Return the class names of a file, sorted, integers by value. Raises UserError if the column has no classes."""
    # Both columns, as in read_custom_dataset: whether the file has a header depends on both.
    table = Table(path, (str(columns.text), str(columns.label)))
    counts = Counter(_class_name(table, number, cell) for number, (_, cell) in table.rows("reading the classes of"))
    if len(counts) == 1:
        raise UserError(
            f"{path}, column {columns.label!r}: all rows are of class {min(counts)!r}; a classifier needs at least two."
        )
    if len(counts) > max(_MANY, counts.total() / 2):
        raise UserError(
            f"{path}, column {columns.label!r}: {len(counts):,} different values in {counts.total():,} rows. Is it the "
            "column of the classes?"
        )
    are_integers = all(name.isdecimal() and len(name) <= _DIGITS for name in counts)
    return tuple(sorted(counts, key=(lambda name: (int(name), name)) if are_integers else str))
