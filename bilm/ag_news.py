"""AG News, as a table with known columns, in each form in which it is passed on:

    class,title,description                      as published: CSV without a header
    Class Index,Title,Description                Kaggle; the title may be missing
    text,label                                   the datasets library, which numbers classes from 0, the others from 1

The columns of a header may come in any order, and the file may be CSV, TSV, JSON lines or Parquet.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from bilm.errors import UserError
from bilm.readers import Table, sample_evenly

CLASS_NAMES = ("World", "Sports", "Business", "Sci/Tech")


def read_ag_news(path: Path, limit: int | None = None) -> Iterator[tuple[int, str]]:
    """Label (from 0) and description, as it stands in the file, of every row.

    At most `limit` rows, evenly spaced, so that a file sorted by class gives all classes; the file is then read twice.
    Raises UserError naming file, row and column of what is wrong, wherever in the file that is.
    """
    return sample_evenly(path, partial(_all_rows, path), limit)


def _all_rows(path: Path, progress_label: str) -> Iterator[tuple[int, str]]:
    table = Table(path, partial(_columns, path))
    for number, (label, text) in table.rows(progress_label):
        label, description = str(label).strip(), table.text(number, text, table.columns[1])
        first = 0 if table.columns[0].strip().lower() == "label" else 1
        if not label.isdecimal() or len(label) > 9 or not 0 <= int(label) - first < len(CLASS_NAMES):
            classes = f"they are {first} to {first + len(CLASS_NAMES) - 1}"
            raise table.error(number, f"{label[:40]!r} is not a class; {classes}.", table.columns[0])
        if not any(character.isalnum() for character in description):
            found = f"not text ({description[:40]!r})" if description.strip() else "empty"
            raise table.error(number, f"it is {found}. Fill it or remove the row.", table.columns[1])
        yield int(label) - first, description


def _columns(path: Path, first: Sequence[str]) -> tuple[str, str]:
    """Those of class and text, as readers.Table takes them, by the cells of the first row."""
    named = {name.strip().lower(): name for name in first}
    for label, text in (("class index", "description"), ("label", "text")):
        if label in named and text in named:
            return named[label], named[text]
    if len(first) == 3 and first[0].strip().isdecimal():
        return "1", "3"
    raise UserError(
        f"{path}, row 1: these are not AG News columns ({', '.join(first)[:80]!r}). Expected the header 'Class Index,"
        "Title,Description', 'Class Index,Description' or 'text,label', or three columns class, title, description "
        "without a header. Texts of your own: --train FILE --text-column NAME --label-column NAME."
    )
