"""Both files of a corpus as one list of texts, for studies that compare many classifiers on the same rows."""

from dataclasses import dataclass

import numpy as np

from bilm.config import TokenizerConfig, VocabularyConfig
from bilm.runtime.errors import UserError
from bilm.text.corpus import SPLITS, Corpus
from bilm.text.split import split_validation, text_key
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import EncodedTexts, Vocabulary


@dataclass(frozen=True)
class LabelledTexts:
    """The rows of train.csv, followed by those of test.csv.

    labels: int64 (N,), from 0; training, validation, test: indices of rows, int64; hashes: by split, Source.identity.
    """

    texts: list[str]
    labels: np.ndarray
    training: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    hashes: dict[str, str]

    def of(self, rows: np.ndarray) -> list[str]:
        """The texts of these rows."""
        return [self.texts[row] for row in rows]


def words_of(rows: LabelledTexts) -> tuple[Vocabulary, EncodedTexts]:
    """The vocabulary of the training rows with the default settings of ELMO.py, and all texts encoded by it."""
    vocabulary = Vocabulary.learn(rows.of(rows.training), Tokenizer(TokenizerConfig()), VocabularyConfig())
    return vocabulary, vocabulary.encode(rows.texts)


def read_labelled(corpus: Corpus, limit: int | None) -> LabelledTexts:
    """Read at most `limit` rows of each file, with the usual split. Raises UserError as Source.rows does."""
    if corpus.columns and not corpus.columns.label:
        raise UserError("name the column of the classes: --label-column NAME.")
    sources = {split: corpus.source(split, limit) for split in SPLITS}
    rows = {split: list(source.rows()) for split, source in sources.items()}
    classes, texts = zip(*(row for split in SPLITS for row in rows[split]), strict=True)
    labels, count = np.array(classes, dtype=np.int64), len(rows["train"])
    keys = np.array([text_key(text) for text in texts[:count]], dtype=np.uint64)
    training, validation = split_validation(labels[:count], keys, corpus.classes)
    hashes = {split: source.identity for split, source in sources.items()}
    return LabelledTexts(list(texts), labels, training, validation, np.arange(count, len(texts)), hashes)
