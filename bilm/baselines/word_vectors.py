"""Word vectors without context, learned from the same texts as the language model: skip-gram, and SVD of counts.

The SVD factorises counts of co-occurrence; Levy et al. 2015 compare it with skip-gram, which factorises nearly the same
matrix:

    counts (V, V), symmetric and sparse  ->  PPMI (V, V)  ->  U sqrt(S) (V, E)
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from bilm.modules.token_layer import EMBEDDING_STD
from bilm.runtime.optional import require
from bilm.runtime.terminal import progress
from bilm.text.vocabulary import PAD, UNK, EncodedTexts

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


# Passes of the randomised SVD over the matrix, beyond the first.
ITERATIONS = 4


def cooccurrences(texts: EncodedTexts, rows: np.ndarray, vocabulary_size: int, window: int) -> sparse.csr_matrix:
    """How often word j stands at most `window` places from word i in one text of `rows`: fp32 (V, V), symmetric.

    The boundaries are words; an id that the vocabulary lacks counts as <unk>.
    """
    ids = np.where(texts.ids < vocabulary_size, texts.ids, UNK)
    text = np.repeat(np.arange(len(texts)), texts.lengths)
    chosen = np.isin(text, rows)
    ids, text = ids[chosen], text[chosen]
    shape = (vocabulary_size, vocabulary_size)
    counts = sparse.csr_matrix(shape, dtype=np.float32)
    for distance in range(1, window + 1):
        together = text[:-distance] == text[distance:]
        pair = ids[:-distance][together], ids[distance:][together]
        counts += sparse.coo_matrix((np.ones(len(pair[0]), np.float32), pair), shape).tocsr()
    return (counts + counts.T).tocsr()


def ppmi(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """max(0, log(p(i, j) / (p(i) p(j)))), natural, of a symmetric matrix of counts; 0 where nothing was counted."""
    found = counts.tocoo()
    of_each = np.asarray(counts.sum(0), dtype=np.float64).ravel()
    information = np.log(found.data * of_each.sum() / (of_each[found.row] * of_each[found.col]))
    keep = information > 0
    kept = (information[keep].astype(np.float32), (found.row[keep], found.col[keep]))
    return sparse.coo_matrix(kept, counts.shape).tocsr()


def svd_vectors(
    texts: EncodedTexts, rows: np.ndarray, vocabulary_size: int, width: int, window: int, seed: int
) -> np.ndarray:
    """Vectors of every id from the truncated SVD of the PPMI matrix, U sqrt(S): fp32 (V, `width`).

    Scaled as those of static_vectors.skip_gram; ids that never occur are 0. `seed` is of the randomised SVD.
    """
    matrix = ppmi(cooccurrences(texts, rows, vocabulary_size, window))
    components = min(width, vocabulary_size)
    left, values, _ = randomized_svd(matrix, components, n_iter=ITERATIONS, random_state=seed % 2**32)
    vectors = np.zeros((vocabulary_size, width), dtype=np.float32)
    vectors[:, :components] = left * np.sqrt(values)
    vectors[matrix.getnnz(1) == 0] = 0.0  # exactly
    return vectors * (EMBEDDING_STD / vectors[vectors.any(1)].std())
