"""Texts of the benchmark: reading, splitting and encoding a corpus as the scripts do."""

import tempfile
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

_WORDS = "words.txt"


@dataclass(frozen=True)
class Data:
    """Input of training: encoded texts, labels (N,), and the numbers of the training and of the validation rows."""

    texts: EncodedTexts
    labels: np.ndarray
    training_rows: np.ndarray
    validation_rows: np.ndarray
    vocabulary: Vocabulary

    @property
    def tokens_per_document(self) -> float:
        """Mean number of targets of a training text in one direction, padding excluded."""
        return float((self.texts.lengths[self.training_rows] - 1).mean())


def training_data(
    path: Path, limit: int | None, folder: Path, vocabulary: Vocabulary | None = None, open_ended: bool = False
) -> Data:
    """Prepare a train.csv as ELMO.py does; the vocabulary is learned if none is passed. folder: see `encoded_file`."""
    corpus = encoded_file(path, limit, folder, vocabulary, open_ended)
    rows = split_validation(corpus.labels, corpus.keys)
    vocabulary = vocabulary or Vocabulary(corpus.words, Tokenizer(TokenizerConfig()), open_ended)
    return Data(corpus.texts, corpus.labels, *rows, vocabulary)


def encoded_file(
    path: Path, limit: int | None, folder: Path, vocabulary: Vocabulary | None = None, open_ended: bool = False
) -> EncodedCorpus:
    """Encode a CSV in a new folder inside `folder`, so that no earlier encoding is reused."""
    target = Path(tempfile.mkdtemp(dir=folder)) / "texts"
    source = Source(path, limit, file_hash(path))
    if vocabulary is None:
        learn_and_encode(source, Tokenizer(TokenizerConfig()), VocabularyConfig(), target, open_ended)
    else:
        encode(source, vocabulary, target)
    return open_encoded(target)


def save_vocabulary(vocabulary: Vocabulary, folder: Path) -> None:
    """Write the words for `load_vocabulary`, which other processes call: they need not read the corpus."""
    (folder / _WORDS).write_text("\n".join(vocabulary.words), encoding="utf-8")


def load_vocabulary(folder: Path) -> Vocabulary:
    """Read the vocabulary that `save_vocabulary` wrote to `folder`."""
    return Vocabulary((folder / _WORDS).read_text(encoding="utf-8").split("\n"), Tokenizer(TokenizerConfig()))


def descriptions(path: Path, limit: int | None) -> tuple[list[str], np.ndarray]:
    """Read the texts of a CSV, unchanged, and their labels (N,)."""
    labels, texts = zip(*read_ag_news(path, limit), strict=True)
    return list(texts), np.array(labels)
