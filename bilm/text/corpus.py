"""Find the files of a corpus, AG News or a user's own, and read their rows."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bilm.runtime.errors import UserError
from bilm.runtime.files import COMPRESSED, data_name, file_hash
from bilm.runtime.paths import repository_folder, working_folder
from bilm.text.ag_news import CLASS_NAMES, read_ag_news
from bilm.text.custom_dataset import Columns, read_classes, read_custom_dataset
from bilm.text.readers import KINDS, check_column, has_columns
from bilm.text.tokenizer import SAME_WORDS_BY_BOTH_RULES


@dataclass(frozen=True)
class Unlabelled:
    """A file of texts without labels; column: of the texts, where it has columns; sha256: files.file_hash of it."""

    path: Path
    column: str | None
    sha256: str

    @property
    def identity(self) -> str:
        """As Source.identity."""
        return _hash_of([self.sha256, self.column])


@dataclass(frozen=True)
class Source:
    """A file of which at most `limit` rows are read; sha256: files.file_hash of it.

    columns: None for AG News in one of its forms; more: texts without labels that follow, as many at most;
    corpus: Corpus.name.
    """

    path: Path
    limit: int | None
    sha256: str
    columns: Columns | None = None
    classes: tuple[str, ...] = CLASS_NAMES
    more: Unlabelled | None = None
    corpus: str = ""

    @property
    def same_words_by_both_rules(self) -> bool:
        """Whether it makes no difference by which rule these rows are tokenised."""
        return self.corpus in SAME_WORDS_BY_BOTH_RULES and self.more is None

    @property
    def identity(self) -> str:
        """Names the labelled rows: of AG News the hash of the file, else of the file and of what is read of it."""
        if self.columns is None:
            return self.sha256
        return _hash_of([self.sha256, asdict(self.columns)])

    def rows(self) -> Iterator[tuple[int, str]]:
        """Label (from 0; custom_dataset.NO_LABEL where there is none) and text of every row.

        Raises UserError when a file is no longer the one that was hashed, and naming file, row and column of what is
        wrong in it.
        """
        _check(self.path, self.sha256)
        if self.columns is None:
            yield from read_ag_news(self.path, self.limit)
        else:
            yield from read_custom_dataset(self.path, self.columns, self.classes, self.limit)
        if self.more:
            _check(self.more.path, self.more.sha256)
            yield from read_custom_dataset(self.more.path, Columns(self.more.column, None), (), self.limit)

    def stamp(self) -> dict[str, Any]:
        """What a file that is made of these rows says of them."""
        said: dict[str, Any] = {"file": self.path.name, "sha256": self.sha256, "limit": self.limit}
        said |= asdict(self.columns) if self.columns else {}
        if self.more:
            said["unlabelled"] = {"file": self.more.path.name, "sha256": self.more.sha256, "column": self.more.column}
        return said


def _hash_of(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _check(path: Path, sha256: str) -> None:
    if file_hash(path) != sha256:
        raise UserError(f"{path} has changed, or is another file on this machine than on the first one.")


SPLITS = ("train", "test")
DOWNLOADED = working_folder() / "data" / "ag_news"
SAMPLE = (repository_folder() or working_folder()) / "data" / "sample"

BANNER = """
***************************************************************************************
*  SAMPLE DATA: AG News is not at hand and could not be downloaded.                    *
*  This run uses data/sample (400 texts written for this project), and ELMO.py goes    *
*  on from the weights of this repository unless options shape another model. It shows *
*  that all works; its scores say nothing about AG News. Everything it writes is kept  *
*  apart, in */sample/.                                                               *
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
            raise UserError("there are no test rows: name their file.", "test")
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
        return _checked(Corpus.in_folder(name, folder), "", "data")
    if named := os.environ.get("AG_NEWS_DIR"):
        folder = Path(named)
        name = "sample" if folder.resolve() == SAMPLE else "ag_news"
        return _checked(Corpus.in_folder(name, folder), "AG_NEWS_DIR: ")
    corpus = Corpus.in_folder("ag_news", DOWNLOADED)
    if not all(corpus.path(split).exists() for split in SPLITS):
        from bilm.text.ag_news import Unreachable, download_ag_news

        try:
            download_ag_news(DOWNLOADED)
        except Unreachable as error:
            print(f"AG News could not be downloaded: {error}{BANNER}", file=sys.stderr, flush=True)
            sample = _checked(Corpus.in_folder("sample", SAMPLE), "the sample of this repository: ")
            return replace(sample, is_fallback=True)
    return corpus


def _split_file(folder: Path, split: str) -> Path:
    """The file of a split, also in the folder data/ of a repository of datasets; its usual name where there is none."""
    names = [f"{split}{kind}{ending}" for kind in KINDS for ending in ("", *COMPRESSED)]
    names.append(f"{split}-00000-of-00001.parquet")
    places = [place / name for place in (folder, folder / "data") for name in names]
    return next((place for place in places if place.is_file()), folder / f"{split}.csv")


def _checked(corpus: Corpus, source: str, *parameters: str) -> Corpus:
    for path in (corpus.train, corpus.test):
        if path is not None and not path.is_file():
            raise UserError(
                f"{source}there is no {path.name} in {path.parent}. The folder needs train.csv and test.csv, or one "
                f"file for each that ends in {', '.join(KINDS[1:])}.",
                *parameters,
            )
    return corpus


def own_corpus(train: str, test: str | None, text_column: str | None, label_column: str | None) -> Corpus:
    """A user's own files. It is called as the training file, or as its folder where that is called "train".

    Raises UserError when the options do not fit the files.
    """
    for parameter, file in (("train", train), ("test", test)):
        if file and not Path(file).is_file():
            problem = f"{file} is a folder; name a file in it" if Path(file).is_dir() else f"there is no file {file}"
            raise UserError(f"{problem}.", parameter)
        if file:
            check_column(file, text_column if has_columns(file) else text_column or label_column, "text_column")
    if test and Path(test).samefile(train):
        raise UserError("the test file is the training file; to evaluate on training rows, choose that split.", "test")
    path = data_name(Path(train).resolve())
    name = path.stem if path.stem != "train" else path.parent.name
    # Those names are taken; no data of a user's own may be mistaken for AG News.
    name = f"own-{name}" if name in ("", "ag_news", "sample", "shipped") else name
    return Corpus(name, Path(train), Path(test) if test else None, Columns(text_column, label_column))


def unlabelled(file: str, column: str | None, usual: str | None) -> Unlabelled:
    """Texts without labels, a line each, or in `column`, else in the `usual` one. Raises UserError as `own_corpus`."""
    column = (column or usual) if has_columns(file) else column
    check_column(file, column, "unlabelled_column")
    return Unlabelled(Path(file), column, file_hash(Path(file)))
