"""Lines of a CSV or TSV for the csv module and pandas, which would change some of its characters.

The csv module ends a row at a lone carriage return, and pandas removes a byte order mark at the start of the first
cell, and quotation marks after it. They read halves of surrogate pairs instead, which do not occur in UTF-8.
"""

import io
import re
from collections.abc import Iterator

BYTE_ORDER_MARK = "\ufeff"
_CARRIAGE_RETURN, _MARK = "\udc0d", "\udc0e"
_LONE_CARRIAGE_RETURN = re.compile(r"\r(?!\n)")


class CsvLines(io.TextIOBase):
    """Lines in which these characters are replaced."""

    def __init__(self, lines: Iterator[str]):
        self._lines = lines

    def __next__(self) -> str:  # type: ignore[override]
        line = next(self._lines).replace(BYTE_ORDER_MARK, _MARK)
        return _LONE_CARRIAGE_RETURN.sub(_CARRIAGE_RETURN, line) if "\r" in line else line


def restored(cell: str) -> str:
    """Return a cell of CsvLines as it is in the file."""
    return cell.replace(_CARRIAGE_RETURN, "\r").replace(_MARK, BYTE_ORDER_MARK)
