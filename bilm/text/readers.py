"""Read texts and tables: CSV, TSV, JSON lines and Parquet by the ending of the name; other files have a text per line.

Rows are read one after the other, so that memory does not grow with the size of the file, except of a JSON array. Every
error names the file, the row or line, and a remedy.
"""

import csv
import io
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

import numpy as np

from bilm.runtime.errors import UserError
from bilm.runtime.files import data_name, file_type, open_bytes, require_file
from bilm.runtime.optional_packages import require
from bilm.text.csv_lines import BYTE_ORDER_MARK, CsvLines, restored
from bilm.text.text_rules import collapse_blanks, composed, decoded_lines, without_line_end

STDIN = "-"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_SEMICOLON = ";"  # in a CSV of Excel, where the comma is the decimal point
_JSON_BLANKS = " \t\r\n"
_PARQUET = ".parquet"
KINDS = (*_DELIMITERS, ".jsonl", ".ndjson", ".json", _PARQUET)
# Rows in memory at a time.
_CHUNK = 1024
_LARGEST_CELL = 2**31 - 1
# A cell quoted as the csv module quotes it.
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_TYPES = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a record", bytes: "bytes"}
T = TypeVar("T")


def describe_type(cell: object) -> str:
    return _TYPES.get(type(cell), type(cell).__name__)


def has_columns(path: str | Path) -> bool:
    return data_name(path).suffix.lower() in KINDS


class Table:
    """Selected columns of a CSV, TSV, Parquet or JSON file: one object on each line, or in .json an array of objects.

    columns: their names, or a function that selects them: it gets the cells of the first row of a CSV or TSV, or the
    names of all columns of other files. Columns of a CSV or TSV may also be numbers from 1; if all of them are numbers,
    the file has no header. A CSV in whose header only semicolons separate these names is separated by semicolons.

    Raises UserError if it is a pipe.
    """

    def __init__(self, path: str | Path, columns: Sequence[str] | Callable[[Sequence[str]], Sequence[str]]):
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            require_file(path)
        self.kind = data_name(path).suffix.lower()
        self._select = columns if callable(columns) else lambda first: columns
        self._names = () if callable(columns) else tuple(columns)
        self.columns: Sequence[str] = ()
        if len(set(self._names)) < len(self._names):
            self._refuse_one_column()

    def _refuse_one_column(self) -> NoReturn:
        names = " and ".join(map(repr, self.columns or self._names))
        message = f"{self.path}: {names} are one column; name that of the texts and that of the classes."
        raise UserError(message, "text_column", "label_column")

    def rows(self, label: str = "") -> Iterator[tuple[int, Sequence[object]]]:
        """Yield the number of each row (JSON: of its line, or in the array), from 1, and its cells in `columns`.

        Cells of a CSV or TSV are strings, cells of other files keep their type. label: see files.open_bytes. Raises
        UserError with the row or line and, if one cell is wrong, its column.
        """
        read = {".csv": self._csv_rows, ".tsv": self._csv_rows, _PARQUET: self._parquet_rows}.get(self.kind)
        with open_bytes(self.path, label) as file:
            yield from (read or self._json_rows)(file)

    def error(self, number: int, message: str, column: str | None = None) -> UserError:
        """Build the error for a mistake in the row with this number."""
        unit = "row" if self.kind in (*_DELIMITERS, _PARQUET) else "object" if self._is_json_array else "line"
        lines = (line for row, line, _ in self._csv_structure() if row == number) if self.kind in _DELIMITERS else ()
        position = "".join([f"{self.path}, {unit} {number}", *(f" (line {line})" for line in lines)])
        name = column if column is None or column.isdecimal() else repr(column)
        return UserError(f"{position}{f', column {name}' if name else ''}: {message}")

    def require_text(self, number: int, cell: object, column: str) -> str:
        """Return a cell of the row with this number if it is a text. Raises UserError if it is not."""
        if isinstance(cell, str):
            return cell
        problem = "missing" if cell is None else f"{describe_type(cell)}, not text"
        raise self.error(number, f"it is {problem}. Fill it in, convert it to text, or remove the row.", column)

    def _lines(self, file: io.BufferedIOBase) -> Iterator[str]:
        """Yield lines without a second byte order mark, which a program adds that takes the first one for text."""
        lines = decoded_lines(file, self.path)
        yield from (line.lstrip(BYTE_ORDER_MARK) for line in itertools.islice(lines, 1))
        yield from lines

    def _csv_rows(self, file: io.BufferedIOBase) -> Iterator[tuple[int, Sequence[object]]]:
        import pandas

        self._refuse_carriage_returns()
        first, cells = next(((number, cells) for number, _, cells in self._csv_structure() if cells), (0, []))
        if not cells:
            return
        if re.fullmatch("sep=.?", cells[0]) and not any(cells[1:]):
            raise UserError(f"{self.path}: its first line, {cells[0]!r}, is for Excel alone. Remove that line.")
        self.columns, width = self._select(cells), len(cells)
        has_header = not all(column.isdecimal() for column in self.columns)
        if not has_header and cells == list(map(str, range(width))):
            raise UserError(
                f"{self.path}: its first row, {', '.join(cells)[:80]!r}, is a header of numbers, as pandas writes it "
                "for columns without names. Name the columns, or remove that row."
            )
        positions = [self._position(column, cells, has_header) for column in self.columns]
        if len(set(positions)) < len(positions):
            self._refuse_one_column()
        try:
            # The Python engine checks quotation marks, and distinguishes a missing cell (NaN) from an empty one. One
            # column more than the first row has reveals rows that are too long.
            chunks = pandas.read_csv(
                CsvLines(self._lines(file)),
                sep=self._delimiter,
                quoting=self._quoting,
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
                columns = ([restored(cell) for cell in chunk[p]] for p in positions)
                for number, *row in zip((chunk.index + 1).tolist(), *columns, strict=True):
                    if number > first or not has_header:
                        yield number, row
        except (pandas.errors.ParserError, csv.Error) as error:
            self._raise_structure_error(width, str(error))

    def _refuse_carriage_returns(self) -> None:
        """Raises UserError if carriage returns alone end the rows: each row, or each but the last one.

        Those between quotation marks are text, and those without are, too, if a line feed ends an earlier row.
        """
        last = [""]

        def lines(file: io.BufferedIOBase) -> Iterator[str]:
            for line in self._lines(file):
                for last[0] in io.StringIO(line, newline=""):
                    yield last[0]

        csv.field_size_limit(_LARGEST_CELL)
        with open_bytes(self.path) as file:
            rows = csv.reader(lines(file), delimiter=self._delimiter, quoting=self._quoting)
            ends = (last[0][-1:] for cells in rows if cells)
            count = sum(1 for _ in itertools.takewhile("\r".__eq__, ends))
            if count and next(ends, None) is None:
                raise UserError(
                    f"{self.path}: its lines end in carriage returns alone, as in a CSV for Macintosh. Save it with "
                    "the line ends of Windows or Unix, in Excel as 'CSV UTF-8'."
                )

    def _position(self, column: str, first: Sequence[str], has_header: bool = True) -> int:
        names, name = list(map(composed, first)), composed(column)
        if has_header and name in names:
            if names.count(name) > 1:
                raise UserError(f"{self.path} has {names.count(name)} columns {column!r}. Rename the others.")
            return names.index(name)
        # More digits than Python converts are no number of a column.
        if self.kind in _DELIMITERS and column.isdecimal() and len(column) < 10 and 1 <= int(column) <= len(first):
            return int(column) - 1
        raise UserError(
            f"{self.path} has no column {column!r}.{self._hint(name, names)} Its first row has: "
            f"{', '.join(map(repr, first))[:200]}."
        )

    def _hint(self, name: str, names: Sequence[str]) -> str:
        """Return what may be meant by `name`, which is none of the names in the first row of the file."""
        if name.isdecimal() and self.kind in _DELIMITERS:
            remedy = "Rename that column" if name in names else f"It has columns 1 to {len(names)}"
            return f" Digits alone are the number of a column, not its name. {remedy}."
        if name.isdecimal():
            return " Columns of such a file have names, not numbers."
        if self.kind == ".csv" and "\t" in names[0]:
            return " Tabs separate its columns: let its name end in .tsv."
        same = (known for known in names if _simplified(known) == _simplified(name))
        return "".join(f" Did you mean {known!r}?" for known in itertools.islice(same, 1))

    @cached_property
    def _delimiter(self) -> str:
        if self.kind == ".csv" and self._names:
            with open_bytes(self.path) as file:
                lines = map(without_line_end, CsvLines(self._lines(file)))
                header = next(filter(None, lines), "")
            with suppress(csv.Error):
                cells, with_commas = (next(csv.reader([header], delimiter=d)) for d in (_SEMICOLON, ","))
                header_names = {composed(restored(cell)) for cell in cells}
                found = any(composed(name) in header_names for name in self._names if not name.isdecimal())
                if found and len(cells) > len(with_commas) == 1:
                    return _SEMICOLON
        return _DELIMITERS[self.kind]

    def _csv_structure(self) -> Iterator[tuple[int, int, list[str]]]:
        """Yield number, first line and all cells of each row, read by the csv module: pandas reports no lines.

        Raises UserError if quotation marks do not match.
        """
        csv.field_size_limit(_LARGEST_CELL)
        with open_bytes(self.path) as file:
            lines = CsvLines(self._lines(file))
            rows = csv.reader(lines, delimiter=self._delimiter, quoting=self._quoting, strict=True)
            number, line = 0, 1
            try:
                for number, cells in enumerate(rows, start=1):
                    yield number, line, [restored(cell) for cell in cells]
                    line = rows.line_num + 1
            except csv.Error as error:
                raise UserError(
                    f"{self.path}, row {number + 1} (line {line}): a quotation mark that opens a cell is not closed, "
                    f"or text follows the mark that closes it ({error}). Put quotation marks around the complete cell "
                    "and double those inside it; if the file was cut off, copy or download it again."
                ) from error

    def _raise_structure_error(self, width: int, reason: str) -> NoReturn:
        for number, line, cells in self._csv_structure():
            if cells and len(cells) != width:
                raise UserError(
                    f"{self.path}, row {number} (line {line}): {len(cells)} columns where the first row has {width}: a "
                    f"{ {',': 'comma', _SEMICOLON: 'semicolon'}.get(self._delimiter, 'tab') } without quotes, or a cut "
                    "file?"
                )
        raise UserError(f"{self.path} cannot be read: {reason}.")

    @cached_property
    def _quoting(self) -> Literal[0, 3]:
        """Decide whether quotation marks at the start of a cell of a TSV quote the cell or are part of its text.

        They are part of the text if all lines have the same number of cells and some cell that begins with a mark is
        not closed by one. In a CSV they always quote.
        """
        if self.kind != ".tsv":
            return csv.QUOTE_MINIMAL
        widths, has_marks, unclosed_line = set(), False, 0
        with open_bytes(self.path) as file:
            for number, line in enumerate(map(without_line_end, self._lines(file)), start=1):
                widths |= {line.count("\t") + 1} if line else set()
                marked = [cell for cell in line.split("\t") if cell.startswith('"')] if '"' in line else []
                has_marks = has_marks or bool(marked)
                unclosed_line = unclosed_line or (0 if all(map(_QUOTED.fullmatch, marked)) else number)
        if unclosed_line and widths == {1}:
            raise UserError(
                f"{self.path}, line {unclosed_line}: a quotation mark opens a cell and is not closed in this line, so "
                "that the end of the cell is ambiguous. Remove the mark, or save the file as CSV."
            )
        return csv.QUOTE_MINIMAL if has_marks and not (unclosed_line and len(widths) == 1) else csv.QUOTE_NONE

    # Not pandas.read_json(lines=True): it makes two rows of a line with two objects, drops halves of surrogate pairs,
    # turns 4 into 4.0 when the next line has 4.5, and its errors name no line.
    def _json_rows(self, file: io.BufferedIOBase) -> Iterator[tuple[int, Sequence[object]]]:
        keys: list[str] = []
        for number, record in self._json_array(file) if self._is_json_array else self._json_lines(file):
            if not isinstance(record, dict):
                remedy = "The array needs objects" if self._is_json_array else "Write one object on each line"
                raise self.error(number, f"it is not a JSON object. {remedy}: {{...}}.")
            if not keys:
                self.columns = self.columns or self._select(list(record))
                keys = self._json_keys(number, record)
            if not record.keys() >= set(keys):  # perhaps composed in another way
                record = {composed(name): cell for name, cell in record.items()}
                keys = list(map(composed, keys))
            cells = map(record.get, keys)
            yield number, [replace_surrogates(cell) if isinstance(cell, str) else cell for cell in cells]

    def _json_keys(self, number: int, first: dict[str, object]) -> list[str]:
        """Return the keys of the columns in the first record. Raises UserError if it lacks one, or is a whole table."""
        if first and all(isinstance(cell, dict | list) for cell in first.values()):
            raise self.error(
                number,
                "it holds records and lists alone, as a whole table does. Write one object for each row, in pandas "
                "with to_json(orient='records').",
            )
        names = list(first)
        return [names[self._position(column, names)] for column in self.columns]

    def _json_lines(self, file: io.BufferedIOBase) -> Iterator[tuple[int, object]]:
        for number, line in enumerate(self._lines(file), start=1):
            if not (line := line.strip(_JSON_BLANKS)):
                continue
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = f"({getattr(error, 'msg', error)}, column {getattr(error, 'colno', 1)})"
                raise self.error(number, f"it is not JSON {reason}. Write one object on each line: {{...}}.") from error

    def _json_array(self, file: io.BufferedIOBase) -> Iterator[tuple[int, object]]:
        try:
            yield from enumerate(json.loads("".join(self._lines(file))), start=1)
        except (ValueError, RecursionError) as error:
            where, reason = f"line {getattr(error, 'lineno', 1)}", getattr(error, "msg", error)
            raise UserError(f"{self.path}, {where}: the array is not JSON ({reason}).") from error

    @cached_property
    def _is_json_array(self) -> bool:
        """Whether the file is one array: a .json, as pandas and web services write it, that begins with a bracket."""
        if self.kind != ".json":
            return False
        with open_bytes(self.path) as file:
            begins = (line.strip(_JSON_BLANKS)[:1] for line in self._lines(file))
            return next(filter(None, begins), "") == "["

    def _parquet_rows(self, file: io.BufferedIOBase) -> Iterator[tuple[int, Sequence[object]]]:
        parquet, lib = (require(f"pyarrow.{name}", f"{self.path}: Parquet") for name in ("parquet", "lib"))
        number = 0
        try:
            content = parquet.ParquetFile(file)
            names = content.schema_arrow.names
            self.columns = self._select(names)
            selected = [names[self._position(column, names)] for column in self.columns]
            for batch in content.iter_batches(_CHUNK, columns=list(set(selected))):
                cells = zip(*(batch.column(name).to_pylist() for name in selected), strict=True)
                yield from enumerate(cells, start=number + 1)
                number += batch.num_rows
        except (lib.ArrowException, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.path} cannot be read as Parquet, after row {number}: {reason}") from error


def _simplified(name: str) -> str:
    return collapse_blanks(name).casefold()


def read_texts(source: str, column: str | None, label: str = "") -> Iterator[str]:
    """Yield the texts of `column` of a file with columns, or the lines of another file or of standard input ("-").

    label: see files.open_bytes. Raises UserError with the position of a mistake.
    """
    check_column("standard input" if source == STDIN else source, column, "column")
    if column is not None:
        table = Table(source, [column])
        yield from (table.require_text(number, cell, column) for number, (cell,) in table.rows(label))
    else:
        with nullcontext(sys.stdin.buffer) if source == STDIN else open_bytes(source, label) as file:
            yield from map(without_line_end, decoded_lines(file, source))


def check_column(path: str, column: str | None, *parameters: str) -> None:
    """Raise UserError, with these parameters, if a file has columns and `column` is None, or the reverse.

    Also, without them, if `column` is one of a spreadsheet or of an archive.
    """
    if has_columns(path) and column is None:
        raise UserError(f"{path} has columns; name the one with the texts.", *parameters)
    if column is not None and not has_columns(path):
        if Path(path).is_file():
            with open_bytes(path) as file:
                if description := file_type(file.read(64)):
                    raise UserError(f"{path} is {description}.")
        raise UserError(f"{path} is read line by line; only files in {', '.join(KINDS)} have columns.", *parameters)


def replace_surrogates(text: str) -> str:
    """Replace unpaired surrogates, which cannot be encoded as UTF-8, by "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def sample_evenly(path: Path, rows: Callable[[str], Iterator[T]], limit: int | None) -> Iterator[T]:
    """Yield at most `limit` rows of a file, evenly spaced, so that a file sorted by class yields all classes.

    rows: a function from the label of a progress bar to all rows; called twice if there are more than `limit`. Raises
    UserError if there are none.
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
    """Yield lists of at most `size` consecutive items; itertools.batched of Python 3.12 with lists."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
