"""Find AG News, read its CSV forms, split off validation rows.

Three forms of the same data are read: without a header `class,title,description` (as published), with the header
`Class Index,Title,Description` (Kaggle), and with `Class Index,Description`. Classes are numbered from 1.
"""

import csv
import hashlib
import io
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bilm.errors import UserError

CLASS_NAMES = ("World", "Sports", "Business", "Sci/Tech")
SPLITS = ("train", "test")
ROOT = Path(__file__).resolve().parent.parent
DOWNLOADED = ROOT / "data" / "ag_news"
SAMPLE = ROOT / "data" / "sample"

VALIDATION_SHARE = 0.05
# A class of few rows gives more than that share, so that the best epoch is not picked on two or three texts.
VALIDATION_AT_LEAST = 10

BANNER = """
***************************************************************************************
*  SAMPLE DATA: AG News is not at hand and could not be downloaded.                    *
*  This run uses data/sample (400 texts written for this project). It shows that all   *
*  works; its scores mean nothing. Everything it writes is kept apart, in */sample/.   *
*  For the real thing: put train.csv and test.csv into a folder and set AG_NEWS_DIR.   *
***************************************************************************************
"""


@dataclass(frozen=True)
class Corpus:
    """A folder with train.csv and test.csv. `name` is "ag_news", "sample", or the folder's own for any other data."""

    name: str
    folder: Path

    def path(self, split: str) -> Path:
        return self.folder / f"{split}.csv"


@dataclass(frozen=True)
class Documents:
    """texts: N descriptions as they stand in the file; labels: int64 (N,), from 0; sha256: of the file."""

    texts: list[str]
    labels: np.ndarray
    sha256: str

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> "Documents":
        return Documents([self.texts[i] for i in rows], self.labels[rows], self.sha256)


def find_corpus(data: str | None = None) -> Corpus:
    """The corpus in folder `data`; without one, in AG_NEWS_DIR; else in data/ag_news, downloaded if need be.

    Without a network that is data/sample, with a banner on stderr. Raises UserError when a folder that was named lacks
    train.csv or test.csv.
    """
    if data is not None:
        folder = Path(data)
        known = [Path(p).resolve() for p in (os.environ.get("AG_NEWS_DIR"), DOWNLOADED) if p]
        name = "ag_news" if folder.resolve() in known else folder.resolve().name
        return _checked(Corpus(name, folder), "--data")
    if named := os.environ.get("AG_NEWS_DIR"):
        folder = Path(named)
        name = "sample" if folder.resolve() == SAMPLE else "ag_news"
        return _checked(Corpus(name, folder), "AG_NEWS_DIR")
    corpus = Corpus("ag_news", DOWNLOADED)
    if not all(corpus.path(split).exists() for split in SPLITS):
        from bilm.download import Unreachable, download_ag_news

        try:
            download_ag_news(DOWNLOADED)
        except Unreachable as error:
            print(f"AG News could not be downloaded: {error}{BANNER}", file=sys.stderr, flush=True)
            return Corpus("sample", SAMPLE)
    return corpus


def _checked(corpus: Corpus, named_by: str) -> Corpus:
    for split in SPLITS:
        if not corpus.path(split).is_file():
            raise UserError(f"{named_by}: there is no {split}.csv in {corpus.folder}. It needs train.csv and test.csv.")
    return corpus


def read_csv(path: Path) -> Documents:
    """All rows of a CSV in one of the three forms. Raises UserError naming file, row and column of what is wrong."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {row}: byte 0x{content[error.start]:02x} is not UTF-8. Save the file as UTF-8 "
            "(from Latin-1: iconv -f latin1 -t utf-8)."
        ) from error
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: _Columns | None = None
    texts: list[str] = []
    labels: list[int] = []
    row = 0
    try:
        for row, cells in enumerate(reader, start=1):
            if not cells:
                continue  # a blank line
            if columns is None:
                columns = _columns_of(cells, path)
                if columns.header:
                    continue
            label, description = _read_row(cells, columns, f"{path}, row {row} (line {reader.line_num})")
            labels.append(label)
            texts.append(description)
    except csv.Error as error:
        raise UserError(
            f"{path}, row {row + 1}: the file ends or breaks inside a quoted field ({error}). It may have been cut "
            "off; copy or download it again."
        ) from error
    if not texts:
        raise UserError(f"{path} has no rows.")
    return Documents(texts, np.array(labels, dtype=np.int64), hashlib.sha256(content).hexdigest())


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


def limited(documents: Documents, limit: int | None) -> Documents:
    """At most `limit` of the rows, evenly spaced, so that a file sorted by class gives all classes."""
    if limit is None or limit >= len(documents):
        return documents
    return documents.take(np.linspace(0, len(documents) - 1, limit).astype(np.int64))


def split_validation(documents: Documents) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and rows for validation: fixed by the texts alone, whatever the seed or the order of rows.

    Of each class the texts with the smallest hashes. Texts that agree in letters and digits count as one and go to the
    same side, so that no validation text is also trained on. Raises UserError when a class has a single text.
    """
    keys = [hashlib.sha256(_letters(text).encode()).digest() for text in documents.texts]
    class_of: dict[bytes, int] = {}
    for key, label in zip(keys, documents.labels.tolist(), strict=True):
        class_of.setdefault(key, label)
    chosen: set[bytes] = set()
    for label in sorted(set(class_of.values())):
        members = sorted(key for key, owner in class_of.items() if owner == label)
        if len(members) < 2:
            raise UserError(
                f"class {label + 1} has a single distinct text among the {len(documents)} training rows; at least 2 "
                "are needed, one to train on and one to validate on."
            )
        wanted = max(round(VALIDATION_SHARE * len(members)), min(VALIDATION_AT_LEAST, len(members) // 4), 1)
        chosen.update(members[:wanted])
    is_validation = np.array([key in chosen for key in keys])
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower()
