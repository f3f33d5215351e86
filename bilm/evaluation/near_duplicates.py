"""Test texts that a training text nearly repeats: press agencies send the same report twice, with a few words changed.

Two texts are near-duplicates when the sets of their runs of SPAN words have a Jaccard index of SIMILAR or more:
what they share, as a part of all that is in either.
"""

from collections.abc import Sequence

import numpy as np

from bilm.text.corpus import Corpus
from bilm.text.split import split_validation, text_key
from bilm.text.tokenizer import Tokenizer

SPAN = 4
SIMILAR = 0.6
# Texts compared at a time with all training texts, to bound the memory.
BLOCK = 500


def find_duplicates(corpus: Corpus, limit: int | None) -> tuple[np.ndarray, float | None]:
    """The test rows that a row trained on nearly repeats, int64, and the share of them whose label is another.

    `limit`: rows of each file that are read. Raises UserError as Source.rows does.
    """
    known, asked = (list(corpus.source(split, limit).rows()) for split in ("train", "test"))
    keys = np.array([text_key(text) for _, text in known], dtype=np.uint64)
    training, _ = split_validation(np.array([label for label, _ in known]), keys, corpus.classes)
    known, tokenizer = [known[row] for row in training], Tokenizer()
    best, similarity = nearest(*([tokenizer(text) for _, text in rows] for rows in (known, asked)))
    their_labels = np.array([label for label, _ in known])[best]
    return near_rows(similarity, their_labels, np.array([label for label, _ in asked]))


def nearest(known: Sequence[Sequence[str]], queries: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """For each list of words in `queries` the most similar one of `known`, and its Jaccard index.

    Returns indices, int64 (N,), the lowest one of equals, -1 where no run of words is shared; and fp64 (N,).
    """
    from sklearn.feature_extraction.text import CountVectorizer  # takes a second to import

    # Fitted on the queries: the runs of all training texts would fill a gigabyte, and only shared ones are counted.
    counter = CountVectorizer(analyzer=_runs, binary=True)
    query_runs, known_runs = counter.fit_transform(queries), counter.transform(known).T.tocsc()
    query_sizes, known_sizes = query_runs.getnnz(1), np.array([len(set(_runs(words))) for words in known])
    best, similarity = np.empty(len(queries), np.int64), np.empty(len(queries))
    for start in range(0, len(queries), BLOCK):
        rows = slice(start, start + BLOCK)
        shared = (query_runs[rows] @ known_runs).tocsr()
        sizes = known_sizes[shared.indices] + np.repeat(query_sizes[rows], np.diff(shared.indptr))
        shared.data = shared.data / (sizes - shared.data)
        best[rows], similarity[rows] = shared.argmax(1).ravel(), shared.max(1).toarray().ravel()
    return np.where(similarity > 0, best, -1), similarity


def _runs(words: Sequence[str]) -> list[tuple[str, ...]]:
    """The runs of SPAN words; a shorter text is one run."""
    return [tuple(words[start : start + SPAN]) for start in range(max(1, len(words) - SPAN + 1))]


def near_rows(similarity: np.ndarray, their_labels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float | None]:
    """The rows with a near-duplicate, int64, and the share of them whose label is not that of the most similar text.

    similarity: fp64 (N,), as `nearest` gives it; their_labels: of the most similar texts, int (N,).
    """
    rows = np.flatnonzero(similarity >= SIMILAR)
    return rows, float((their_labels != labels)[rows].mean()) if len(rows) else None
