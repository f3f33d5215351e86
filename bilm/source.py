"""Where the rows of a split come from, and what they are known by."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bilm.ag_news import CLASS_NAMES, read_ag_news
from bilm.custom_dataset import Columns, read_custom_dataset
from bilm.errors import UserError
from bilm.files import file_hash
from bilm.tokenizer import SAME_WORDS_BY_BOTH_RULES


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
