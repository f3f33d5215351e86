"""Word vectors without context, learned from the same texts as the language model."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bilm.lexicon import PAD, UNK
from bilm.optional import require
from bilm.progress import progress
from bilm.token_layer import EMBEDDING_STD
from bilm.vocabulary import EncodedTexts

EPOCHS = 5
NEGATIVES = 5


class _Sentences:
    """The texts of `rows` as lists of id strings, again and again, as gensim wants them; each moves the bar."""

    def __init__(self, texts: EncodedTexts, rows: np.ndarray, vocabulary_size: int, bar: Any):
        self.texts = texts
        self.rows = rows
        self.vocabulary_size = vocabulary_size
        self.bar = bar

    def __iter__(self) -> Iterator[list[str]]:
        for row in self.rows:
            ids = self.texts.ids[self.texts.offsets[row] : self.texts.offsets[row + 1]]
            self.bar.update()
            yield [str(i) for i in np.where(ids < self.vocabulary_size, ids, UNK)]


def skip_gram(
    texts: EncodedTexts, rows: np.ndarray, vocabulary_size: int, width: int, seed: int, window: int = 5
) -> np.ndarray:
    """Word2Vec vectors (Mikolov et al. 2013: skip-gram, negative sampling) of every id: fp32 (vocabulary_size, width).

    Scaled to the standard deviation that the language model gives its own; ids that never occur, and padding, are 0.
    One thread, so that the same seed gives the same vectors. Raises UserError when gensim is missing.
    """
    models = require("gensim.models", "Word2Vec")
    # Once more than the epochs: the words are counted first.
    with progress(total=(EPOCHS + 1) * len(rows), unit="text", label=f"skip-gram, window {window}") as bar:
        model = models.Word2Vec(
            _Sentences(texts, rows, vocabulary_size, bar),
            vector_size=width,
            window=window,
            sg=1,
            negative=NEGATIVES,
            min_count=1,
            epochs=EPOCHS,
            seed=seed % 2**32,
            workers=1,
        )
    vectors = np.zeros((vocabulary_size, width), dtype=np.float32)
    for word, place in model.wv.key_to_index.items():
        vectors[int(word)] = model.wv.vectors[place]
    vectors[PAD] = 0.0
    return vectors * (EMBEDDING_STD / vectors[vectors.any(1)].std())
