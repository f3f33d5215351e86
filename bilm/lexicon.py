"""The words that ids stand for, and how they are spelled: in the numbering of the original ELMo.

    "Bär"   <word>  66 195 164 114  </word>  <pad> <pad> ...       each number plus one, since 0 pads texts

The characters are the bytes of UTF-8: they spell any word of any script, none is unknown, and there is no alphabet to
learn or to keep.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

PAD, UNK, BOS, EOS = range(4)
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")

TEXT_BEGIN, TEXT_END, WORD_BEGIN, WORD_END, WORD_PAD = range(257, 262)
NUM_CHARACTERS = 262


def spell(ids: np.ndarray, words: Sequence[str], length: int) -> np.ndarray:
    """Characters of words (N,) with these ids, by which the specials among them are known: int16 (N, length).

    A word longer than `length` - 2 bytes loses its end, an empty one is the two marks alone, <pad> is all zeros.
    """
    spelled = np.full((len(words), length), WORD_PAD, dtype=np.int16)
    spelled[:, 0] = WORD_BEGIN
    for row, word in zip(spelled, words, strict=True):
        letters = np.frombuffer(word.encode("utf-8", "ignore")[: length - 2], np.uint8)
        end = len(letters) + 1
        row[1:end] = letters
        row[1:end] += 1
        row[end] = WORD_END
    for special, mark in ((BOS, TEXT_BEGIN), (EOS, TEXT_END)):
        spelled[ids == special, 1:] = WORD_PAD
        spelled[ids == special, 1:3] = mark, WORD_END
    spelled[ids == PAD] = 0
    return spelled


class Lexicon:
    """Words by id: those of a vocabulary, and behind them, where it is open-ended, the others of the texts at hand."""

    def __init__(self, words: Sequence[str]):
        """The first four of `words` are SPECIALS."""
        self.words = words
        self._table = np.empty((0, 0), dtype=np.int16)
        self._spelled = np.empty(0, dtype=bool)

    def __len__(self) -> int:
        return len(self.words)

    def spelled(self, ids: Tensor, length: int) -> Tensor:
        """Characters of words (U,): int16 (U, length), on the same device. Each word is spelled at its first sight."""
        if self._table.shape[1] != length:
            self._table = np.empty((len(self), length), dtype=np.int16)
            self._spelled = np.zeros(len(self), dtype=bool)
        wanted = ids.cpu().numpy()
        new = wanted[~self._spelled[wanted]]
        self._table[new] = spell(new, [self.words[i] for i in new], length)
        self._spelled[new] = True
        return torch.from_numpy(self._table[wanted]).to(ids.device)
