"""Find the files of a corpus, AG News or a user's own, and read their rows."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bilm.runtime.errors import UserError
from bilm.runtime.files import COMPRESSED, data_name, file_hash, require_file
from bilm.runtime.paths import repository_folder, working_folder
from bilm.text.ag_news import CLASS_NAMES, Unreachable, download_ag_news, read_ag_news
from bilm.text.custom_dataset import Columns, read_classes, read_custom_dataset
from bilm.text.readers import KINDS, check_column, has_columns
from bilm.text.tokenizer import SAME_WORDS_BY_BOTH_RULES


@dataclass(frozen=True)
class Unlabelled:
    """A file of texts without labels. column: of the texts, if the file has columns; sha256: files.file_hash of it."""

    path: Path
    column: str | None
    sha256: str

    @property
    def identity(self) -> str:
        """Identify the texts; see Source.identity."""
        return _hash_of([self.sha256, self.column])


@dataclass(frozen=True)
class Source:
    """A file of which at most `limit` rows are read. sha256: files.file_hash of it.

    columns: None for AG News in one of its forms; unlabelled: texts without labels, read after these rows, with the
    same limit; corpus: Corpus.name.
    """

    path: Path
    limit: int | None
    sha256: str
    columns: Columns | None = None
    classes: tuple[str, ...] = CLASS_NAMES
    unlabelled: Unlabelled | None = None
    corpus: str = ""

    @property
    def same_words_by_both_rules(self) -> bool:
        """Whether both rules of the tokenizer give the same words for these rows."""
        return self.corpus in SAME_WORDS_BY_BOTH_RULES and self.unlabelled is None

    @property
    def identity(self) -> str:
        """Identify the labelled rows: for AG News the hash of the file, otherwise of the file and its columns."""
        return self.sha256 if self.columns is None else _hash_of([self.sha256, asdict(self.columns)])

    def rows(self) -> Iterator[tuple[int, str]]:
        """Yield label (from 0; custom_dataset.NO_LABEL for a text without one) and text of every row.

        Raises UserError if a file is not the one that was hashed, and with file, row and column of a mistake in it.
        """
        _check(self.path, self.sha256)
        if self.columns is None:
            yield from read_ag_news(self.path, self.limit)
        else:
            yield from read_custom_dataset(self.path, self.columns, self.classes, self.limit)
        if self.unlabelled:
            _check(self.unlabelled.path, self.unlabelled.sha256)
            yield from read_custom_dataset(self.unlabelled.path, Columns(self.unlabelled.column, None), (), self.limit)

    def stamp(self) -> dict[str, Any]:
        """Describe these rows in the files that are made from them."""
        columns = asdict(self.columns) if self.columns else {}
        record = {"file": self.path.name, "sha256": self.sha256, "limit": self.limit, **columns}
        if self.unlabelled:
            record["unlabelled"] = {
                "file": self.unlabelled.path.name,
                "sha256": self.unlabelled.sha256,
                "column": self.unlabelled.column,
            }
        return record


def _hash_of(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _check(path: Path, sha256: str) -> None:
    if file_hash(path) != sha256:
        raise UserError(f"{path} has changed, or is another file on this machine than on the first one.")


SPLITS = ("train", "test")
DOWNLOADED = working_folder() / "data" / "ag_news"
SAMPLE = (repository_folder() or working_folder()) / "data" / "sample"

BANNER = """
***************************************************************************************
*  SAMPLE DATA: no copy of AG News was found, and it could not be downloaded.         *
*  This run uses data/sample (400 texts written for this project). ELMO.py starts     *
*  from the weights of this repository unless options change the model. The run shows *
*  that the commands work; its scores do not apply to AG News. All of its files are   *
*  written to separate folders, */sample/.                                            *
*  For AG News: put train.csv and test.csv into a folder and set AG_NEWS_DIR to it.   *
***************************************************************************************
"""


@dataclass(frozen=True)
class Corpus:
    """Files to train and to test on. columns: None for AG News in one of its forms.

    name: "ag_news", "sample", or another name for other data.
    """

    name: str
    train: Path
    test: Path | None
    columns: Columns | None = None
    # Whether this is the sample, used because AG News was not named and could not be downloaded.
    is_fallback: bool = False

    @classmethod
    def in_folder(cls, name: str, folder: Path) -> "Corpus":
        """The files train and test of a folder, in one of the forms of AG News."""
        return cls(name, _split_file(folder, "train"), _split_file(folder, "test"))

    @property
    def splits(self) -> tuple[str, ...]:
        return SPLITS if self.test else SPLITS[:1]

    def path(self, split: str) -> Path:
        """Return the file of a split. Raises UserError if there is no test file."""
        path = {"train": self.train, "test": self.test}[split]
        if path is None:
            raise UserError("there are no test rows: name their file.", "test")
        return path

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; those of a user's own file are read from the training file. Raises UserError."""
        if self.columns is None:
            return CLASS_NAMES
        return read_classes(self.train, self.columns) if self.columns.label else ()

    def source(self, split: str, limit: int | None, unlabelled: Unlabelled | None = None) -> Source:
        """Return the rows of a split. Raises UserError if the file cannot be read."""
        path = self.path(split)
        return Source(path, limit, file_hash(path), self.columns, self.classes, unlabelled, self.name)


def find_corpus(data: str | None = None) -> Corpus:
    """Find the corpus in folder `data`; by default in AG_NEWS_DIR, then in data/ag_news, downloaded if it is missing.

    Without a network this is data/sample, with a banner on stderr. Raises UserError if a named folder lacks the file of
    a split.
    """
    if data is not None:
        return _corpus_in(Path(data), "", "data")
    if environment := os.environ.get("AG_NEWS_DIR"):
        return _corpus_in(Path(environment), "AG_NEWS_DIR: ")
    if not all(_split_file(DOWNLOADED, split).exists() for split in SPLITS):
        try:
            download_ag_news(DOWNLOADED)
        except Unreachable as error:
            print(f"AG News could not be downloaded: {error}{BANNER}", file=sys.stderr, flush=True)
            return replace(_corpus_in(SAMPLE, "the sample of this repository: "), is_fallback=True)
    return _corpus_in(DOWNLOADED, "")


def _corpus_in(folder: Path, prefix: str, *parameters: str) -> Corpus:
    """Return the corpus in a folder. Raises UserError, its message after `prefix`, if the file of a split is missing.

    The folder in AG_NEWS_DIR and data/ag_news hold AG News, unless they are the sample.
    """
    path = folder.resolve()
    if path.is_file():
        raise UserError(f"{prefix}{folder} is a file. Name the folder with train.csv and test.csv.", *parameters)
    ag_news = {Path(p).resolve() for p in (os.environ.get("AG_NEWS_DIR"), DOWNLOADED) if p} - {SAMPLE}
    corpus = Corpus.in_folder("ag_news" if path in ag_news else _name_of(path), folder)
    for split in SPLITS:
        if not corpus.path(split).is_file():
            raise UserError(
                f"{prefix}there is no {split}.csv in {path}. The folder needs train.csv and test.csv, or one file "
                f"for each that ends in {', '.join(KINDS[1:])}.",
                *parameters,
            )
    return corpus


def _name_of(folder: Path) -> str:
    """Name a corpus after its folder. A drive has no name, and the empty name would mean AG News."""
    return folder.name or "own-"


def _split_file(folder: Path, split: str) -> Path:
    """Return the file of a split, also in a subfolder data/, as in repositories of datasets; else its usual name."""
    names = [f"{split}{kind}{ending}" for kind in KINDS for ending in ("", *COMPRESSED)]
    names.append(f"{split}-00000-of-00001.parquet")
    paths = [parent / name for parent in (folder, folder / "data") for name in names]
    return next((path for path in paths if path.is_file()), folder / f"{split}.csv")


def own_corpus(train: str, test: str | None, text_column: str | None, label_column: str | None) -> Corpus:
    """Return the corpus in a user's own files, named after the training file, or after its folder if that is "train".

    Raises UserError if the options do not fit the files.
    """
    for parameter, file in (("train", train), ("test", test)):
        if file:
            require_file(file, parameter)
            check_column(file, text_column if has_columns(file) else text_column or label_column, "text_column")
    if test and Path(test).samefile(train):
        raise UserError("the test file is the training file. Name a file of other rows.", "test")
    path = data_name(Path(train).resolve())
    name = path.stem if path.stem != "train" else path.parent.name
    # Reserved names: a user's own data must not be taken for AG News.
    name = f"own-{name}" if name in ("", "ag_news", "sample", "shipped") else name
    return Corpus(name, Path(train), Path(test) if test else None, Columns(text_column, label_column))


def find_unlabelled(file: str, column: str | None, default_column: str | None) -> Unlabelled:
    """Return a file of texts without labels, one a line, or in `column`, by default in `default_column`.

    Raises UserError as `own_corpus`.
    """
    require_file(file, "unlabelled")
    column = (column or default_column) if has_columns(file) else column
    check_column(file, column, "unlabelled_column")
    return Unlabelled(Path(file), column, file_hash(Path(file)))


def labelled(file: str, text_column: str | None, label_column: str | None, classes: Sequence[str]) -> Source:
    """Return the rows of one file, whose classes are `classes`; without columns, of a file in a form of AG News.

    Raises UserError if the file cannot be read, or has no columns.
    """
    check_column(file, text_column or "Description")  # a file of lines has no labels, whatever they are called
    columns = None if text_column is None else Columns(text_column, label_column)
    return Source(Path(file), None, file_hash(Path(file)), columns, tuple(classes))
