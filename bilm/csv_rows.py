"""The rows of AG News, one after the other, so that memory does not grow with the file.

Three forms of it are read: without a header `class,title,description` (as published), with the header
`Class Index,Title,Description` (Kaggle), and with `Class Index,Description`. Classes are numbered from 1.
"""

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bilm.errors import UserError
from bilm.progress import Watched, progress
from bilm.records import evenly

CLASS_NAMES = ("World", "Sports", "Business", "Sci/Tech")
_READ_AT_ONCE = 2**18


def file_hash(path: Path) -> str:
    """SHA-256 of the file. Raises UserError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def read_rows(path: Path, limit: int | None = None) -> Iterator[tuple[int, str]]:
    """Label (from 0) and description, as it stands in the file, of every row.

    At most `limit` rows, evenly spaced, so that a file sorted by class gives all classes; the file is then read twice.
    Raises UserError naming file, row and column of what is wrong, wherever in the file that is.
    """
    return evenly(partial(_all_rows, path), limit)


def _all_rows(path: Path, doing: str) -> Iterator[tuple[int, str]]:
    columns: _Columns | None = None
    row, found = 0, False
    try:
        size = path.stat().st_size
        csv.field_size_limit(max(csv.field_size_limit(), size))
        bar = progress(total=size, unit="B", unit_scale=True, label=f"{doing} {path.name}")
        with bar, io.BufferedReader(Watched(path, bar), _READ_AT_ONCE) as file:
            reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
            for row, cells in enumerate(reader, start=1):
                if not cells:
                    continue  # a blank line
                if columns is None:
                    columns = _columns_of(cells, path)
                    if columns.header:
                        continue
                found = True
                yield _read_row(cells, columns, f"{path}, row {row} (line {reader.line_num})")
    except UnicodeDecodeError as error:
        raise UserError(_not_utf8(path)) from error
    except csv.Error as error:
        raise UserError(
            f"{path}, row {row + 1}: the file ends or breaks inside a quoted field ({error}). It may have been cut "
            "off; copy or download it again."
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if not found:
        raise UserError(f"{path} has no rows.")


def _not_utf8(path: Path) -> str:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return (
                    f"{path}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8. Save the file as UTF-8 "
                    "(from Latin-1: iconv -f latin1 -t utf-8)."
                )
    return f"{path} is not UTF-8."


@dataclass(frozen=True)
class _Columns:
    count: int
    label: int
    text: int
    header: bool


def _columns_of(first: list[str], path: Path) -> _Columns:
    names = [cell.strip().lower() for cell in first]
    if "class index" in names and "description" in names:
        return _Columns(len(first), names.index("class index"), names.index("description"), header=True)
    if len(first) == 3 and names[0].isdecimal():
        return _Columns(3, 0, 2, header=False)
    raise UserError(
        f"{path}, row 1: these are not AG News columns ({', '.join(first)[:80]!r}). Expected the header 'Class Index,"
        "Title,Description' or 'Class Index,Description', or three columns class, title, description without a header."
    )


def _read_row(cells: list[str], columns: _Columns, where: str) -> tuple[int, str]:
    if len(cells) != columns.count:
        raise UserError(
            f"{where}: {len(cells)} columns where {columns.count} are expected: a comma without quotes, or a cut file?"
        )
    label, description = cells[columns.label].strip(), cells[columns.text]
    if not label.isdecimal() or len(label) > 9 or not 1 <= int(label) <= len(CLASS_NAMES):
        column = f"column {columns.label + 1} (class)"
        raise UserError(f"{where}, {column}: {label[:40]!r} is not a class; they are 1 to {len(CLASS_NAMES)}.")
    if not any(character.isalnum() for character in description):
        shown = "empty" if not description.strip() else f"not text ({description[:40]!r})"
        raise UserError(f"{where}, column {columns.text + 1} (description): it is {shown}. Fill it or remove the row.")
    return int(label) - 1, description
