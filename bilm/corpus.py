"""Find AG News, and split off validation rows."""

import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bilm.errors import UserError

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


def text_key(text: str) -> int:
    """64 bits of a hash of the letters and digits of `text`: texts that agree in them count as one."""
    letters = re.sub(r"[\W_]+", "", text).lower()
    return int.from_bytes(hashlib.sha256(letters.encode()).digest()[:8], "big")


def split_validation(labels: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and rows for validation: fixed by the texts alone, whatever the seed or the order of rows.

    `labels`: int64 (N,); `keys`: uint64 (N,), text_key of each text. Of each class the smallest keys. Texts of one key
    go to the same side, so that no validation text is also trained on. Raises UserError when a class has a single text.
    """
    distinct, first = np.unique(keys, return_index=True)
    owners = labels[first]
    chosen = []
    for label in np.unique(owners):
        members = distinct[owners == label]
        if len(members) < 2:
            raise UserError(
                f"class {label + 1} has a single distinct text among the {len(labels)} training rows; at least 2 "
                "are needed, one to train on and one to validate on."
            )
        wanted = max(round(VALIDATION_SHARE * len(members)), min(VALIDATION_AT_LEAST, len(members) // 4), 1)
        chosen.append(members[:wanted])
    is_validation = np.isin(keys, np.concatenate(chosen))
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)
