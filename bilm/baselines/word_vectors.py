"""Word vectors without context, trained on the same texts as the language model: skip-gram, and SVD of counts.

The SVD factorizes the PPMI of co-occurrence counts; skip-gram implicitly factorizes nearly the same matrix (Levy et al.
2015 compare the two):

    counts (V, V), symmetric and sparse  ->  PPMI (V, V)  ->  U sqrt(S) (V, E)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from bilm.modules.token_layer import EMBEDDING_STD
from bilm.runtime.optional_packages import require
from bilm.runtime.terminal import progress
from bilm.text.vocabulary import PAD, UNK, EncodedTexts

EPOCHS = 5
NEGATIVES = 5
# Power iterations of the randomized SVD.
ITERATIONS = 4


@dataclass
class _Sentences:
    """The texts of `rows` as lists of id strings, for gensim, which iterates several times; each text moves the bar."""

    texts: EncodedTexts
    rows: np.ndarray
    vocabulary_size: int
    bar: Any

    def __iter__(self) -> Iterator[list[str]]:
        for row in self.rows:
            ids = self.texts.ids[self.texts.offsets[row] : self.texts.offsets[row + 1]]
            self.bar.update()
            yield [str(i) for i in np.where(ids < self.vocabulary_size, ids, UNK)]


def skip_gram(
    texts: EncodedTexts, rows: np.ndarray, vocabulary_size: int, width: int, seed: int, window: int = 5
) -> np.ndarray:
    """Word2Vec vectors (Mikolov et al. 2013: skip-gram, negative sampling) of every id: fp32 (vocabulary_size, width).

    Scaled to the initial standard deviation of the language model's vectors; those of ids that never occur and of
    padding are 0. Trained on one thread, so that the same seed gives the same vectors. Raises UserError when gensim is
    missing.
    """
    models = require("gensim.models", "Word2Vec")
    # One pass more than there are epochs: the words are counted first.
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
    vectors[[int(word) for word in model.wv.index_to_key]] = model.wv.vectors
    vectors[PAD] = 0.0
    return vectors * (EMBEDDING_STD / vectors[vectors.any(1)].std())


def cooccurrences(texts: EncodedTexts, rows: np.ndarray, vocabulary_size: int, window: int) -> sparse.csr_matrix:
    """Count how often word j is at most `window` tokens from word i in a text of `rows`: fp32 (V, V), symmetric.

    The boundaries are words, and ids outside the vocabulary count as <unk>.
    """
    text = np.repeat(np.arange(len(texts)), texts.lengths)
    chosen = np.isin(text, rows)
    ids, text = np.where(texts.ids < vocabulary_size, texts.ids, UNK)[chosen], text[chosen]
    shape = (vocabulary_size, vocabulary_size)
    counts = sparse.csr_matrix(shape, dtype=np.float32)
    for distance in range(1, window + 1):
        same_text = text[:-distance] == text[distance:]
        pair = ids[:-distance][same_text], ids[distance:][same_text]
        counts += sparse.coo_matrix((np.ones(len(pair[0]), np.float32), pair), shape).tocsr()
    return (counts + counts.T).tocsr()


def ppmi(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """max(0, log(p(i, j) / (p(i) p(j)))), natural logarithm, of a symmetric matrix of counts; 0 for a count of 0."""
    matrix = counts.tocoo()
    totals = np.asarray(counts.sum(0), dtype=np.float64).ravel()
    information = np.log(matrix.data * totals.sum() / (totals[matrix.row] * totals[matrix.col]))
    positive = information > 0
    entries = (information[positive].astype(np.float32), (matrix.row[positive], matrix.col[positive]))
    return sparse.coo_matrix(entries, counts.shape).tocsr()


def svd_vectors(
    texts: EncodedTexts, rows: np.ndarray, vocabulary_size: int, width: int, window: int, seed: int
) -> np.ndarray:
    """Vectors of every id from the truncated SVD of the PPMI matrix, U sqrt(S): fp32 (V, `width`).

    Scaled as those of skip_gram; those of ids that never occur are 0. `seed`: of the randomized SVD.
    """
    matrix = ppmi(cooccurrences(texts, rows, vocabulary_size, window))
    components = min(width, vocabulary_size)
    left, values, _ = randomized_svd(matrix, components, n_iter=ITERATIONS, random_state=seed % 2**32)
    vectors = np.zeros((vocabulary_size, width), dtype=np.float32)
    vectors[:, :components] = left * np.sqrt(values)
    vectors[matrix.getnnz(1) == 0] = 0.0  # exactly
    return vectors * (EMBEDDING_STD / vectors[vectors.any(1)].std())
