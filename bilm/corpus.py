"""Find AG News, or take a user's own files, and split off validation rows."""

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from bilm.ag_news import CLASS_NAMES
from bilm.custom_dataset import NO_LABEL, Columns, read_classes
from bilm.errors import UserError
from bilm.files import COMPRESSED, data_name, file_hash
from bilm.readers import KINDS, check_column, has_columns
from bilm.repository import repository_folder, working_folder
from bilm.source import Source, Unlabelled
from bilm.text_rules import collapse_blanks, composed, letters_and_digits

SPLITS = ("train", "test")
DOWNLOADED = working_folder() / "data" / "ag_news"
SAMPLE = (repository_folder() or working_folder()) / "data" / "sample"

VALIDATION_SHARE = 0.05
# A class of few rows gives more than that share, so that the best epoch is not picked on two or three texts.
VALIDATION_AT_LEAST = 10
# A text with fewer letters and digits is known by its other characters, too. No text of AG News has fewer than 23.
FEW_LETTERS = 8

BANNER = """
***************************************************************************************
*  SAMPLE DATA: AG News is not at hand and could not be downloaded.                    *
*  This run uses data/sample (400 texts written for this project), and ELMO.py goes    *
*  on from the weights of this repository unless options shape another model. It shows *
*  that all works; its scores say nothing about AG News. Everything it writes is kept  *
*  apart, in */sample/. To train on the sample from nothing: --from-scratch.           *
*  For AG News itself: put train.csv and test.csv into a folder and set AG_NEWS_DIR.   *
***************************************************************************************
"""


@dataclass(frozen=True)
class Corpus:
    """Files to train on and to test with; those that are not AG News have `columns`.

    `name` is "ag_news", "sample", or for any other data of its own.
    """

    name: str
    train: Path
    test: Path | None
    columns: Columns | None = None
    # Whether it stands in for AG News, which was not named and could not be downloaded.
    is_fallback: bool = False

    @classmethod
    def in_folder(cls, name: str, folder: Path) -> "Corpus":
        """Files named train and test, in one of the forms of AG News."""
        return cls(name, _split_file(folder, "train"), _split_file(folder, "test"))

    @property
    def splits(self) -> tuple[str, ...]:
        return SPLITS if self.test else SPLITS[:1]

    def path(self, split: str) -> Path:
        """Raises UserError when there is no test file."""
        path = {"train": self.train, "test": self.test}[split]
        if path is None:
            raise UserError("there are no test rows: name them (--test FILE).")
        return path

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Their names; of a user's own those of the training file, which is read for them. Raises UserError."""
        if self.columns is None:
            return CLASS_NAMES
        return read_classes(self.train, self.columns) if self.columns.label else ()

    def source(self, split: str, limit: int | None, more: Unlabelled | None = None) -> Source:
        """Raises UserError when the file cannot be read."""
        path = self.path(split)
        return Source(path, limit, file_hash(path), self.columns, self.classes, more, self.name)


def find_corpus(data: str | None = None) -> Corpus:
    """The corpus in folder `data`; without one, in AG_NEWS_DIR; else in data/ag_news, downloaded if need be.

    Without a network that is data/sample, with a banner on stderr. Raises UserError when a folder that was named lacks
    the file of a split.
    """
    if data is not None:
        folder = Path(data)
        known = [Path(p).resolve() for p in (os.environ.get("AG_NEWS_DIR"), DOWNLOADED) if p]
        name = "ag_news" if folder.resolve() in known else folder.resolve().name
        return _checked(Corpus.in_folder(name, folder), "--data")
    if named := os.environ.get("AG_NEWS_DIR"):
        folder = Path(named)
        name = "sample" if folder.resolve() == SAMPLE else "ag_news"
        return _checked(Corpus.in_folder(name, folder), "AG_NEWS_DIR")
    corpus = Corpus.in_folder("ag_news", DOWNLOADED)
    if not all(corpus.path(split).exists() for split in SPLITS):
        from bilm.download import Unreachable, download_ag_news

        try:
            download_ag_news(DOWNLOADED)
        except Unreachable as error:
            print(f"AG News could not be downloaded: {error}{BANNER}", file=sys.stderr, flush=True)
            sample = _checked(Corpus.in_folder("sample", SAMPLE), "the sample of this repository")
            return replace(sample, is_fallback=True)
    return corpus


def _split_file(folder: Path, split: str) -> Path:
    """The file of a split, also in the folder data/ of a repository of datasets; its usual name where there is none."""
    names = [f"{split}{kind}{ending}" for kind in KINDS for ending in ("", *COMPRESSED)]
    names.append(f"{split}-00000-of-00001.parquet")
    places = [place / name for place in (folder, folder / "data") for name in names]
    return next((place for place in places if place.is_file()), folder / f"{split}.csv")


def _checked(corpus: Corpus, named_by: str) -> Corpus:
    for path in (corpus.train, corpus.test):
        if path is not None and not path.is_file():
            raise UserError(
                f"{named_by}: there is no {path.name} in {path.parent}. It needs train.csv and test.csv, or one file "
                f"for each that ends in {', '.join(KINDS[1:])}."
            )
    return corpus


def own_corpus(train: str, test: str | None, text_column: str | None, label_column: str | None) -> Corpus:
    """A user's own files. It is called as the training file, or as its folder where that is called "train".

    Raises UserError when the options do not fit the files.
    """
    for option, file in (("--train", train), ("--test", test)):
        if file and not Path(file).is_file():
            found = f"{file} is a folder; name a file in it" if Path(file).is_dir() else f"there is no file {file}"
            raise UserError(f"{option}: {found}.")
        if file:
            check_column(
                file, text_column if has_columns(file) else text_column or label_column, option, "--text-column"
            )
    if test and Path(test).samefile(train):
        raise UserError("--test: that is what is trained on; for figures on those rows, evaluate.py has --split train.")
    path = data_name(Path(train).resolve())
    name = path.stem if path.stem != "train" else path.parent.name
    # Those names are taken; no data of a user's own may be mistaken for AG News.
    name = f"own-{name}" if name in ("", "ag_news", "sample", "shipped") else name
    return Corpus(name, Path(train), Path(test) if test else None, Columns(text_column, label_column))


def unlabelled(file: str, column: str | None, usual: str | None) -> Unlabelled:
    """Texts without labels, a line each, or in `column`, else in the `usual` one. Raises UserError as `own_corpus`."""
    column = (column or usual) if has_columns(file) else column
    check_column(file, column, "--unlabelled", "--unlabelled-column")
    return Unlabelled(Path(file), column, file_hash(Path(file)))


def text_key(text: str) -> int:
    """64 bits of a hash of the letters and digits of `text`: texts that agree in them count as one.

    Texts with hardly any ("C" and "C++", "!!!", emojis) count as one where they agree in every character, up to case
    and the number of blanks.
    """
    content = letters_and_digits(text).lower()
    if len(content) < FEW_LETTERS:
        content = collapse_blanks(composed(text)).casefold()
    return int.from_bytes(hashlib.sha256(content.encode("utf-8", "replace")).digest()[:8], "big")


def split_validation(
    labels: np.ndarray, keys: np.ndarray, names: Sequence[str] = CLASS_NAMES
) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and rows for validation: fixed by the texts alone, whatever the seed or the order of rows.

    `labels`: int64 (N,); `keys`: uint64 (N,), text_key of each text; `names`: of the classes. Of each class the
    smallest keys; of rows without a label none, unless no row has one. Texts of one key go to the same side, so that no
    validation text is also trained on. Raises UserError when a class has a single text.
    """
    distinct, first = np.unique(keys, return_index=True)
    owners = labels[first]
    chosen = []
    for label in np.unique(owners[owners != NO_LABEL] if (labels != NO_LABEL).any() else owners):
        members = distinct[owners == label]
        if len(members) < 2:
            whose = "there is" if label == NO_LABEL else f"class {names[label]!r} has"
            raise UserError(
                f"{whose} a single distinct text among the {len(labels)} training rows; at least 2 are needed, one to "
                "train on and one to validate on."
            )
        wanted = max(round(VALIDATION_SHARE * len(members)), min(VALIDATION_AT_LEAST, len(members) // 4), 1)
        chosen.append(members[:wanted])
    is_validation = np.isin(keys, np.concatenate(chosen))
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)
