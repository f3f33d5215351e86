"""How the benchmark comes by its texts: the one place that knows how a corpus is read, split and encoded."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bilm.config import TokenizerConfig, VocabularyConfig
from bilm.runtime.files import file_hash
from bilm.text.ag_news import read_ag_news
from bilm.text.corpus import Source
from bilm.text.encoded_corpus import EncodedCorpus, encode, learn_and_encode, open_encoded
from bilm.text.split import split_validation
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import EncodedTexts, Vocabulary

WORDS = "words.txt"


@dataclass(frozen=True)
class Data:
    """What training starts from: all rows encoded, their labels (N,), which are trained on and which validated on."""

    texts: EncodedTexts
    labels: np.ndarray
    training_rows: np.ndarray
    validation_rows: np.ndarray
    vocabulary: Vocabulary

    folder: Path  # where their ids lie

    @property
    def tokens_per_document(self) -> float:
        """Mean number of real targets of a training text, in one direction."""
        return float((self.texts.lengths[self.training_rows] - 1).mean())


def training_data(
    path: Path, limit: int | None, folder: Path, vocabulary: Vocabulary | None = None, open_ended: bool = False
) -> Data:
    """All that ELMO.py does to a train.csv before it trains; with a `vocabulary`, none is learned.

    The ids go into a new folder inside `folder`.
    """
    place, tokenizer = _new_place(folder), Tokenizer(TokenizerConfig())
    source = Source(path, limit, file_hash(path))
    if vocabulary is None:
        learn_and_encode(source, tokenizer, VocabularyConfig(), place, open_ended)
    else:
        encode(source, vocabulary, place)
    found = open_encoded(place)
    training_rows, validation_rows = split_validation(found.labels, found.keys)
    vocabulary = vocabulary or Vocabulary(found.words, tokenizer, open_ended)
    return Data(found.texts, found.labels, training_rows, validation_rows, vocabulary, place)


def encoded_file(path: Path, limit: int | None, folder: Path, vocabulary: Vocabulary) -> EncodedCorpus:
    """What evaluate.py reads of a CSV; the ids go into a new folder inside `folder`."""
    place = _new_place(folder)
    encode(Source(path, limit, file_hash(path)), vocabulary, place)
    return open_encoded(place)


def _new_place(folder: Path) -> Path:
    """Where nothing is yet, so that nothing is used again."""
    return Path(tempfile.mkdtemp(dir=folder)) / "texts"


def save_vocabulary(vocabulary: Vocabulary, folder: Path) -> None:
    """For load_vocabulary, in another process."""
    (folder / WORDS).write_text("\n".join(vocabulary.words), encoding="utf-8")


def load_vocabulary(folder: Path) -> Vocabulary:
    """The one that was saved in `folder`; its process holds the corpus in memory no more."""
    words = (folder / WORDS).read_text(encoding="utf-8").split("\n")
    return Vocabulary(words, Tokenizer(TokenizerConfig()))


def encoded(texts: Sequence[str], vocabulary: Vocabulary) -> EncodedTexts:
    """Texts from anywhere."""
    return vocabulary.encode(texts)


def descriptions(path: Path, limit: int | None) -> tuple[list[str], np.ndarray]:
    """The texts of a CSV as they stand there, and their labels (N,)."""
    labels, texts = zip(*read_ag_news(path, limit), strict=True)
    return list(texts), np.array(labels)
