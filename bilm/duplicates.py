"""Test texts that a training text nearly repeats: press agencies send the same report twice, with a few words changed.

Two texts are near-duplicates when the sets of their runs of SPAN words have a Jaccard index of SIMILAR or more:
what they share, as a part of all that is in either.
"""

from collections.abc import Sequence

import numpy as np

from bilm.corpus import Corpus, split_validation, text_key
from bilm.vocabulary import Tokenizer

SPAN = 4
SIMILAR = 0.6


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


def nearest(known: Sequence[Sequence[str]], asked: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """The most similar one of `known` for each of `asked`, all lists of words, and how similar it is.

    int64 (N,), the first of equals, -1 where none shares a run of words; Jaccard index, fp64 (N,).
    """
    numbers: dict[str, int] = {}
    runs = [_runs(words, numbers) for words in known]
    sizes = np.array([len(found) for found in runs])
    everything, owners = np.concatenate(runs), np.repeat(np.arange(len(runs)), sizes)
    order = np.argsort(everything, kind="stable")
    everything, owners = everything[order], owners[order]
    best, similarity = np.full(len(asked), -1, np.int64), np.zeros(len(asked))
    for row, words in enumerate(asked):
        wanted = _runs(words, numbers)
        begin, end = (np.searchsorted(everything, wanted, side) for side in ("left", "right"))
        hits = [owners[a:b] for a, b in zip(begin, end, strict=True) if a < b]
        if hits:
            candidates, shared = np.unique(np.concatenate(hits), return_counts=True)
            jaccard = shared / (sizes[candidates] + len(wanted) - shared)
            best[row], similarity[row] = candidates[jaccard.argmax()], jaccard.max()
    return best, similarity


def _runs(words: Sequence[str], numbers: dict[str, int]) -> np.ndarray:
    """Hashes of the distinct runs of SPAN words, uint64; a shorter text is one run. `numbers` grows by new words."""
    ids = np.array([numbers.setdefault(word, len(numbers) + 1) for word in words], dtype=np.uint64)
    ids = np.concatenate([ids, np.zeros(max(0, SPAN - len(ids)), np.uint64)])
    count = len(ids) - SPAN + 1
    hashed = np.zeros(count, np.uint64)
    for offset in range(SPAN):
        hashed = (hashed ^ ids[offset : offset + count]) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(29)
    return np.unique(hashed)


def near_rows(similarity: np.ndarray, their_labels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float | None]:
    """The rows with a near-duplicate, int64, and the share of them whose label is not that of the most similar text.

    similarity: fp64 (N,), as `nearest` gives it; their_labels: of the most similar texts, int (N,).
    """
    rows = np.flatnonzero(similarity >= SIMILAR)
    return rows, float((their_labels != labels)[rows].mean()) if len(rows) else None
