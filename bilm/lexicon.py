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


def spell(words: Sequence[str], length: int) -> np.ndarray:
    """Character ids of `words`, the first four of which are SPECIALS: int16 (N, length).

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
    for place, mark in ((BOS, TEXT_BEGIN), (EOS, TEXT_END)):
        spelled[place, 1:] = WORD_PAD
        spelled[place, 1:3] = mark, WORD_END
    spelled[PAD] = 0
    return spelled


class Lexicon:
    """Words by id: those of a vocabulary, and behind them, where it is open-ended, the others of the texts at hand."""

    def __init__(self, words: Sequence[str]):
        self.words = words
        self._spelled: dict[tuple[int, torch.device], Tensor] = {}

    def __len__(self) -> int:
        return len(self.words)

    def spelled(self, length: int, device: torch.device) -> Tensor:
        """`spell` of all of them, on `device`; made at the first call."""
        key = (length, device)
        if key not in self._spelled:
            self._spelled[key] = torch.from_numpy(spell(self.words, length)).to(device)
        return self._spelled[key]
