"""Harder test rows: with typing errors, and those with the most words that the vocabulary lacks."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from bilm.lexicon import SPECIALS, UNK
from bilm.vocabulary import EncodedTexts, Vocabulary

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
    """evaluate_classifiers on some `rows` of `texts`, with a progress bar of this `label`."""

    def __call__(self, label: str, texts: EncodedTexts, rows: np.ndarray) -> dict[str, dict[str, Any]]: ...


def robustness(
    plain: dict[str, dict[str, Any]],
    labelled: Iterable[tuple[int, str]],
    vocabulary: Vocabulary,
    texts: EncodedTexts,
    classify: Classify,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Accuracies of each classifier on harder forms of `texts`, which `labelled` holds as they were written.

    Those with unknown words are left out where the vocabulary has none.
    plain: the classifiers' figures on `texts` as they are.
    """
    words = [vocabulary.tokenizer(text) for _, text in labelled]
    everything, shares = np.arange(len(texts)), unknown_shares(texts, len(vocabulary))
    hardest = hardest_rows(shares)
    # To the imported original all words are new.
    knows_words = len(vocabulary) > len(SPECIALS)
    hard = classify("unknown words", texts, hardest) if knows_words else {}
    with_errors_in = {}
    for share in SHARES:
        edited = vocabulary.encode_words(with_errors(words, share, seed))
        with_errors_in[str(share)] = classify(f"{share:.0%} of words with errors", edited, everything)
    inside = texts.lengths - 2
    return {
        name: {
            "accuracy": figures["accuracy"],
            "accuracy_with_errors": {share: found[name]["accuracy"] for share, found in with_errors_in.items()},
        }
        | (
            {
                "accuracy_hardest": hard[name]["accuracy"],
                "hardest_rows": len(hardest),
                "hardest_unknown": float(np.average(shares[hardest], weights=np.maximum(inside[hardest], 1))),
                "unknown": float(np.average(shares, weights=np.maximum(inside, 1))),
            }
            if knows_words
            else {}
        )
        for name, figures in plain.items()
    }
