"""Test texts with a near-duplicate among the training texts: press agencies often repeat a report with few changes.

Two texts are near-duplicates when the Jaccard index of their sets of n-grams, |A ∩ B| / |A ∪ B|, is at least
MIN_SIMILARITY; an n-gram is SPAN consecutive words.
"""

from collections.abc import Sequence

import numpy as np

from bilm.text.corpus import Corpus
from bilm.text.split import split_validation, text_key
from bilm.text.tokenizer import Tokenizer

SPAN = 4
MIN_SIMILARITY = 0.6
# Test texts compared with all training texts at a time; it limits the memory.
BLOCK = 500


def find_duplicates(corpus: Corpus, limit: int | None) -> tuple[np.ndarray, float | None]:
    """Return the test rows with a near-duplicate among the rows trained on, int64, and the share with another label.

    limit: maximum number of rows read from each file. Raises UserError as Source.rows does.
    """
    train, test = (list(corpus.source(split, limit).rows()) for split in ("train", "test"))
    train_labels, test_labels = (np.array([label for label, _ in rows]) for rows in (train, test))
    keys = np.array([text_key(text) for _, text in train], dtype=np.uint64)
    fitted, _ = split_validation(train_labels, keys, corpus.classes)
    tokenizer = Tokenizer()
    best, similarity = nearest([tokenizer(train[row][1]) for row in fitted], [tokenizer(text) for _, text in test])
    return near_rows(similarity, train_labels[fitted][best], test_labels)


def nearest(texts: Sequence[Sequence[str]], queries: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Find, for each list of words in `queries`, the most similar one of `texts`.

    Returns its index, int64 (N,), the lowest of several equal ones, -1 where no n-gram is shared; and the Jaccard
    index, fp64 (N,).
    """
    from sklearn.feature_extraction.text import CountVectorizer  # takes a second to import

    # Fitted on the queries: n-grams of all training texts would fill a gigabyte, and only shared ones are counted.
    counter = CountVectorizer(analyzer=_ngrams, binary=True)
    query_ngrams, text_ngrams = counter.fit_transform(queries), counter.transform(texts).T.tocsc()
    query_sizes, text_sizes = query_ngrams.getnnz(1), np.array([len(set(_ngrams(words))) for words in texts])
    best, similarity = np.empty(len(queries), np.int64), np.empty(len(queries))
    for start in range(0, len(queries), BLOCK):
        rows = slice(start, start + BLOCK)
        shared = (query_ngrams[rows] @ text_ngrams).tocsr()
        sizes = text_sizes[shared.indices] + np.repeat(query_sizes[rows], np.diff(shared.indptr))
        shared.data = shared.data / (sizes - shared.data)
        best[rows], similarity[rows] = shared.argmax(1).ravel(), shared.max(1).toarray().ravel()
    return np.where(similarity > 0, best, -1), similarity


def _ngrams(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all SPAN consecutive words of a text; a shorter text is one n-gram."""
    return [tuple(words[start : start + SPAN]) for start in range(max(1, len(words) - SPAN + 1))]


def near_rows(
    similarity: np.ndarray, nearest_labels: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, float | None]:
    """Return the rows with a near-duplicate, int64, and the share of them whose label differs from it (None if no row).

    similarity: fp64 (N,), from `nearest`; nearest_labels: labels of the most similar texts, int (N,).
    """
    rows = np.flatnonzero(similarity >= MIN_SIMILARITY)
    return rows, float((nearest_labels != labels)[rows].mean()) if len(rows) else None
