"""Harder test rows: with typing errors, and those with the most words that the vocabulary lacks."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from bilm.text.vocabulary import SPECIALS, UNK, EncodedTexts, Vocabulary

# Shares of the words of a text that get an error, and of the rows that count as those with the most unknown words.
SHARES = (0.05, 0.1, 0.2)
HARDEST = 0.1
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def edit(word: str, random: np.random.Generator) -> str:
    """`word` with one error: a letter too many, one missing, two swapped, or one replaced; never the word itself."""
    while True:
        at, letter = int(random.integers(len(word))), _LETTERS[random.integers(len(_LETTERS))]
        edited = (
            word[:at] + letter + word[at:],
            word[:at] + word[at + 1 :],
            word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :],
            word[:at] + letter + word[at + 1 :],
        )[random.integers(4)]
        if edited not in ("", word):
            return edited


def with_errors(texts: Sequence[Sequence[str]], share: float, seed: int) -> list[list[str]]:
    """Texts, each a list of words, in which every word with a letter gets an error with probability `share`.

    The errors of a text depend on its place among the texts, `seed` and `share`, and on nothing else.
    """
    found = []
    for row, words in enumerate(texts):
        random = np.random.default_rng([seed, row])
        chosen = random.random(len(words)) < share
        found.append(
            [
                edit(word, random) if hit and any(map(str.isalpha, word)) else word
                for word, hit in zip(words, chosen, strict=True)
            ]
        )
    return found


def unknown_shares(texts: EncodedTexts, vocabulary_size: int) -> np.ndarray:
    """Words of each text that the vocabulary lacks, as a share of all, boundaries left out: fp64 (N,)."""
    unknown = (texts.ids == UNK) | (texts.ids >= vocabulary_size)
    counts = np.add.reduceat(unknown, texts.offsets[:-1], dtype=np.int64) if len(texts) else np.zeros(0)
    return counts / np.maximum(texts.lengths - 2, 1)


def hardest_rows(shares: np.ndarray) -> np.ndarray:
    """The tenth of the rows with the largest `shares`; among equals the first."""
    return np.sort(np.argsort(-shares, kind="stable")[: max(1, round(HARDEST * len(shares)))])


class Classify(Protocol):
    """The class of each of `texts` by each classifier, int64 (N,), with a progress bar of this `label`."""

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
    """Accuracies of each classifier on harder forms of `texts`, which `labelled` holds as they were written.

    Those with unknown words are left out where the vocabulary has none.
    plain: the class that each classifier gives each of `texts` as they are.
    """
    words = [vocabulary.tokenizer(text) for _, text in labelled]
    shares = unknown_shares(texts, len(vocabulary))
    hardest = hardest_rows(shares)
    with_errors_in = {}
    for share in SHARES:
        edited = vocabulary.encode_words(with_errors(words, share, seed))
        with_errors_in[str(share)] = classify(f"{share:.0%} of words with errors", edited)
    inside = texts.lengths - 2
    found = {}
    for name, classes in plain.items():
        right = {share: float((edited[name] == labels).mean()) for share, edited in with_errors_in.items()}
        found[name] = {"accuracy": float((classes == labels).mean()), "accuracy_with_errors": right}
        # To the imported original all words are new.
        if len(vocabulary) > len(SPECIALS):
            found[name] |= {
                "accuracy_hardest": float((classes == labels)[hardest].mean()),
                "hardest_rows": len(hardest),
                "hardest_unknown": float(np.average(shares[hardest], weights=np.maximum(inside[hardest], 1))),
                "unknown": float(np.average(shares, weights=np.maximum(inside, 1))),
            }
    return found
