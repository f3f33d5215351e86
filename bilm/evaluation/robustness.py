"""Accuracy on harder test rows: with typing errors, and with many unknown words."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from bilm.text.vocabulary import SPECIALS, UNK, EncodedTexts, Vocabulary

# Shares of the words with a typing error.
SHARES = (0.05, 0.1, 0.2)
# The hardest rows are this share of all rows, those with the largest share of unknown words.
HARDEST = 0.1
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def misspell(word: str, random: np.random.Generator) -> str:
    """Return `word` with one typing error: a letter inserted, deleted, swapped with the next one, or replaced."""
    while True:
        i, letter = int(random.integers(len(word))), _LETTERS[random.integers(len(_LETTERS))]
        misspelled = (
            word[:i] + letter + word[i:],
            word[:i] + word[i + 1 :],
            word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :],
            word[:i] + letter + word[i + 1 :],
        )[random.integers(4)]
        if misspelled not in ("", word):
            return misspelled


def with_errors(texts: Sequence[Sequence[str]], share: float, seed: int) -> list[list[str]]:
    """Return texts, lists of words, in which each word with a letter has a typing error with probability `share`.

    The errors of a text depend only on `seed`, `share`, the text, and its index.
    """
    result = []
    for row, words in enumerate(texts):
        random = np.random.default_rng([seed, row])
        chosen = random.random(len(words)) < share
        result.append(
            [
                misspell(word, random) if is_chosen and any(map(str.isalpha, word)) else word
                for word, is_chosen in zip(words, chosen, strict=True)
            ]
        )
    return result


def unknown_shares(texts: EncodedTexts, vocabulary_size: int) -> np.ndarray:
    """Return the share of unknown words in each text, without its boundaries, fp64 (N,)."""
    unknown = (texts.ids == UNK) | (texts.ids >= vocabulary_size)
    counts = np.add.reduceat(unknown, texts.offsets[:-1], dtype=np.int64) if len(texts) else np.zeros(0)
    return counts / np.maximum(texts.lengths - 2, 1)


def hardest_rows(shares: np.ndarray) -> np.ndarray:
    """Return the rows (a tenth of all) with the largest `shares`, the first ones of equal shares, sorted."""
    return np.sort(np.argsort(-shares, kind="stable")[: max(1, round(HARDEST * len(shares)))])


class Classify(Protocol):
    """Returns each classifier's classes of `texts`, int64 (N,), by name; `label` is that of the progress bar."""

    def __call__(self, label: str, texts: EncodedTexts) -> dict[str, np.ndarray]: ...


def robustness(
    plain: dict[str, np.ndarray],
    labels: np.ndarray,
    labelled: Iterable[tuple[int, str]],
    vocabulary: Vocabulary,
    texts: EncodedTexts,
    classify: Classify,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return each classifier's accuracy on harder versions of `texts`, and on the rows with many unknown words.

    plain: each classifier's classes of the unchanged texts, int64 (N,), by name; labels: true classes, int64 (N,);
    labelled: label and raw text of each row. Without words in the vocabulary, no row counts as one with many unknown.
    """
    words = [vocabulary.tokenizer(text) for _, text in labelled]
    shares = unknown_shares(texts, len(vocabulary))
    hardest = hardest_rows(shares)
    misspelled = {
        str(share): classify(
            f"{share:.0%} of words with errors", vocabulary.encode_words(with_errors(words, share, seed))
        )
        for share in SHARES
    }
    lengths = np.maximum(texts.lengths - 2, 1)
    figures: dict[str, dict[str, Any]] = {}
    for name, classes in plain.items():
        correct = classes == labels
        accuracies = {share: float((predicted[name] == labels).mean()) for share, predicted in misspelled.items()}
        figures[name] = {"accuracy": float(correct.mean()), "accuracy_with_errors": accuracies}
        # All words are unknown to the vocabulary of the imported original.
        if len(vocabulary) > len(SPECIALS):
            figures[name] |= {
                "accuracy_hardest": float(correct[hardest].mean()),
                "hardest_rows": len(hardest),
                "hardest_unknown": float(np.average(shares[hardest], weights=lengths[hardest])),
                "unknown": float(np.average(shares, weights=lengths)),
            }
    return figures
