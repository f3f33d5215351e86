"""AG News, as a table with known columns, in each form in which it is passed on:

    class,title,description                      as published: CSV without a header
    Class Index,Title,Description                Kaggle; the title may be missing
    text,label                                   the datasets library, which numbers classes from 0, the others from 1

The columns of a header may come in any order, and the file may be CSV, TSV, JSON lines or Parquet.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bilm.errors import UserError
from bilm.readers import Table, sample_evenly

CLASS_NAMES = ("World", "Sports", "Business", "Sci/Tech")


@dataclass(frozen=True)
class _Form:
    """Columns of class and text, as readers.Table takes them, and the number of the first class."""

    label: str
    text: str
    first: int


def read_ag_news(path: Path, limit: int | None = None) -> Iterator[tuple[int, str]]:
    """Label (from 0) and description, as it stands in the file, of every row.

    At most `limit` rows, evenly spaced, so that a file sorted by class gives all classes; the file is then read twice.
    Raises UserError naming file, row and column of what is wrong, wherever in the file that is.
    """
    return sample_evenly(partial(_all_rows, path), limit)


def _all_rows(path: Path, progress_label: str) -> Iterator[tuple[int, str]]:
    form = _form_of(path)
    table, number = Table(path, (form.label, form.text)), None
    for number, (label, text) in table.rows(progress_label):
        label = str(label).strip()
        if not label.isdecimal() or len(label) > 9 or not 0 <= int(label) - form.first < len(CLASS_NAMES):
            raise table.error(
                number, f"{label[:40]!r} is not a class; they are {form.first} to {form.first + 3}.", form.label
            )
        description = table.text(number, text, form.text)
        if not any(character.isalnum() for character in description):
            shown = "empty" if not description.strip() else f"not text ({description[:40]!r})"
            raise table.error(number, f"it is {shown}. Fill it or remove the row.", form.text)
        yield int(label) - form.first, description
    if number is None:
        raise UserError(f"{path} has no rows.")


def _form_of(path: Path) -> _Form:
    first = Table(path, ()).first_row()
    if not first:
        raise UserError(f"{path} has no rows.")
    named = {name.strip().lower(): name for name in first}
    for label, text, number in (("class index", "description", 1), ("label", "text", 0)):
        if label in named and text in named:
            return _Form(named[label], named[text], number)
    if len(first) == 3 and first[0].strip().isdecimal():
        return _Form("1", "3", 1)
    raise UserError(
        f"{path}, row 1: these are not AG News columns ({', '.join(first)[:80]!r}). Expected the header 'Class Index,"
        "Title,Description', 'Class Index,Description' or 'text,label', or three columns class, title, description "
        "without a header. Texts of your own: --train FILE --text-column NAME --label-column NAME."
    )
