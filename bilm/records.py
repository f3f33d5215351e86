"""Rows of a file with columns, one after the other: CSV, TSV, JSON lines or Parquet, by the end of its name."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bilm.errors import UserError
from bilm.optional import require
from bilm.progress import Watched, progress

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson")
_PARQUET = ".parquet"
KINDS = (*_DELIMITERS, *_JSON, _PARQUET)
# Rows of a Parquet file that are held at once.
_ROWS = 4096


def has_columns(source: str | Path) -> bool:
    return Path(source).suffix.lower() in KINDS


def read_records(source: str | Path, columns: Sequence[str], doing: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Where a row stands ("reviews.csv, row 7"), and its cells in `columns`.

    A column is named, or, in a CSV or TSV, numbered from 1; where all are numbered there is no header. Cells of a CSV
    are strings, those of other kinds what they are in them. doing: for a progress bar ("reading"); none without it.
    Raises UserError naming file, row and column of what is wrong.
    """
    path = Path(source)
    kind = path.suffix.lower()
    try:
        if kind == _PARQUET:
            yield from _of_parquet(path, columns, doing)
            return
        bar = progress(
            total=path.stat().st_size, unit="B", unit_scale=True, label=f"{doing} {path.name}", disable=not doing
        )
        with bar, io.BufferedReader(Watched(path, bar), 2**18) as file:
            text = io.TextIOWrapper(file, "utf-8-sig", newline="" if kind in _DELIMITERS else None)
            if kind in _DELIMITERS:
                yield from _of_csv(text, path, _DELIMITERS[kind], columns)
            else:
                yield from _of_json(text, path, columns)
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not UTF-8 ({error.reason}). Save it as UTF-8.") from error
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror or error}.") from error


def _of_csv(file: io.TextIOBase, path: Path, delimiter: str, columns: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(file, delimiter=delimiter, strict=True)
    places: list[int] | None = None
    width = 0
    try:
        for number, row in enumerate(rows, start=1):
            if not row:
                continue  # a blank line
            if places is None:
                named, width = not all(column.isdecimal() for column in columns), len(row)
                places = [_place(column, row, named, path) for column in columns]
                if named:
                    continue
            if len(row) != width:
                raise UserError(
                    f"{path}, row {number}: {len(row)} columns where the first row has {width}: a comma without "
                    "quotes, or a cut file?"
                )
            yield f"{path}, row {number}", [row[place] for place in places]
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: {error}. A quote that is not closed?") from error


def _place(column: str, first: Sequence[str], named: bool, path: Path) -> int:
    if named and column in first:
        _check_single(column, first, path)
        return first.index(column)
    if column.isdecimal() and 1 <= int(column) <= len(first):
        return int(column) - 1
    raise UserError(f"{path} has no column {column!r}. The cells of its first row are: {', '.join(first)[:200]}")


def _check_single(column: str, names: Sequence[str], path: Path) -> None:
    if names.count(column) > 1:
        raise UserError(f"{path} has {names.count(column)} columns {column!r}. Rename the others.")


def _of_json(file: io.TextIOBase, path: Path, columns: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            found: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: it is not JSON ({error}).") from error
        if not isinstance(found, dict):
            raise UserError(f"{path}, line {number}: it is no JSON object.")
        yield f"{path}, line {number}", [found.get(column) for column in columns]


def _of_parquet(path: Path, columns: Sequence[str], doing: str) -> Iterator[tuple[str, list[Any]]]:
    parquet, pyarrow = require("pyarrow.parquet", f"Reading {path}"), require("pyarrow", f"Reading {path}")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for column in columns:
                if column not in names:
                    raise UserError(f"{path} has no column {column!r}. It has: {', '.join(names)[:200]}")
                _check_single(column, names, path)
            rows = file.metadata.num_rows
            with progress(total=rows, unit="row", label=f"{doing} {path.name}", disable=not doing) as bar:
                for batch in file.iter_batches(_ROWS, columns=list(dict.fromkeys(columns))):
                    for cells in zip(*(batch.column(column).to_pylist() for column in columns), strict=True):
                        number += 1
                        yield f"{path}, row {number}", list(cells)
                    bar.update(batch.num_rows)
    except (pyarrow.lib.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read as Parquet, after row {number}: {reason}") from error


def evenly(rows: Callable[[str], Iterator[Any]], limit: int | None) -> Iterator[Any]:
    """At most `limit` of the rows, evenly spaced, so that a file sorted by class gives all classes.

    rows: given what is being done, for a progress bar, all of them; called twice where there is a limit.
    """
    if limit is not None and limit < (total := sum(1 for _ in rows("counting the rows of"))):
        chosen = set(np.linspace(0, total - 1, limit).astype(np.int64).tolist())
        return (row for i, row in enumerate(rows("reading")) if i in chosen)
    return rows("reading")
