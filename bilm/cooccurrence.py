"""Word vectors by counting: who stands near whom, how much more often than by chance, and the SVD of that.

    counts (V, V)  ->  PPMI (V, V)  ->  U sqrt(S) (V, E)

The matrix is symmetric and sparse; Levy et al. 2015 compare this with skip-gram, which factorises nearly the same one.
"""

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from bilm.lexicon import UNK
from bilm.token_layer import EMBEDDING_STD
from bilm.vocabulary import EncodedTexts

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
