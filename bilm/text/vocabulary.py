"""Words -> ids, and words -> characters, in the numbering of the original ELMo:

    "Bär"   <word>  66 195 164 114  </word>  <pad> <pad> ...       each number plus one, since 0 pads texts

Characters are the bytes of UTF-8: every word of every script can be written with them, and none is unknown.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bilm.config import VocabularyConfig
from bilm.text.tokenizer import Tokenizer

PAD, UNK, BOS, EOS = range(4)
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")

TEXT_BEGIN, TEXT_END, WORD_BEGIN, WORD_END, WORD_PAD = range(257, 262)
NUM_CHARACTERS = 262


def characters_of(ids: np.ndarray, words: Sequence[str], length: int) -> np.ndarray:
    """Characters of words (N,) with these ids, by which the specials among them are known: int16 (N, length).

    A word longer than `length` - 2 bytes loses its end, an empty one is the two marks alone, <pad> is all zeros.
    """
    characters = np.full((len(words), length), WORD_PAD, dtype=np.int16)
    characters[:, 0] = WORD_BEGIN
    for row, word in zip(characters, words, strict=True):
        letters = np.frombuffer(word.encode("utf-8", "ignore")[: length - 2], np.uint8)
        end = len(letters) + 1
        row[1:end] = letters
        row[1:end] += 1
        row[end] = WORD_END
    for special, mark in ((BOS, TEXT_BEGIN), (EOS, TEXT_END)):
        characters[ids == special, 1:] = WORD_PAD
        characters[ids == special, 1:3] = mark, WORD_END
    characters[ids == PAD] = 0
    return characters


class Lexicon:
    """Words by id: those of a vocabulary, and behind them, where it is open-ended, the others of the texts at hand."""

    def __init__(self, words: Sequence[str]):
        """The first four of `words` are SPECIALS."""
        self.words = words
        self._table = np.empty((0, 0), dtype=np.int16)
        self._is_known = np.empty(0, dtype=bool)

    def __len__(self) -> int:
        return len(self.words)

    def characters_of(self, ids: Tensor, length: int) -> Tensor:
        """Characters of words (U,): int16 (U, length), on the same device. Each word is spelled at its first sight."""
        if self._table.shape[1] != length:
            self._table = np.empty((len(self), length), dtype=np.int16)
            self._is_known = np.zeros(len(self), dtype=bool)
        wanted = ids.cpu().numpy()
        new = wanted[~self._is_known[wanted]]
        self._table[new] = characters_of(new, [self.words[i] for i in new], length)
        self._is_known[new] = True
        return torch.from_numpy(self._table[wanted]).to(ids.device)


@dataclass(frozen=True)
class EncodedTexts:
    """Many texts as one flat array: text i is `ids[offsets[i]:offsets[i + 1]]`, boundaries included.

    ids: int32 (total,), in memory or mapped from a file; offsets: int64 (N + 1,); lexicon: the words they stand for.
    """

    ids: np.ndarray
    offsets: np.ndarray
    lexicon: Lexicon | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, boundaries included: int64 (N,)."""
        return np.diff(self.offsets)


class Vocabulary:
    """Words by falling frequency behind the four specials, and the tokenizer that made them.

    The order matters: the adaptive softmax takes an id's place for its frequency rank.
    """

    def __init__(self, words: Sequence[str], tokenizer: Tokenizer, open_ended: bool = False):
        """`words`: all of them, specials first. Raises ValueError when they are not, or when a word stands twice.

        open_ended: words that it lacks are not all <unk>, but get ids of their own, in each set of texts, behind it.
        """
        if tuple(words[: len(SPECIALS)]) != SPECIALS:
            raise ValueError(f"a vocabulary begins with {SPECIALS}, this one with {tuple(words[:4])}")
        self.words = list(words)
        self.tokenizer = tokenizer
        self.open_ended = open_ended
        if len(set(self.words)) != len(self.words):
            raise ValueError("a word stands twice in the vocabulary")
        # Without the specials: a word of a text that is spelled like one is a word like any other.
        self.ids = {word: i for i, word in enumerate(self.words) if i >= len(SPECIALS)}

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], tokenizer: Tokenizer, config: VocabularyConfig, known: Sequence[str] = ()
    ) -> "Vocabulary":
        """The vocabulary of texts with these words, which must be training rows only. Ties are broken by spelling.

        Where no word occurs `config.min_count` times, all get in: so few texts have no rare words. `known`: all words
        of another vocabulary, which keep their ids; the new ones follow.
        """
        old = frozenset(known)
        ranked = sorted((item for item in counts.items() if item[0] not in old), key=lambda item: (-item[1], item[0]))
        words = [word for word, count in ranked if count >= config.min_count]
        if not words and not known:
            words = [word for word, _ in ranked]
        begin = list(known) or list(SPECIALS)
        return cls([*begin, *words[: max(0, config.max_words - len(begin))]], tokenizer)

    @classmethod
    def learn(cls, texts: Iterable[str], tokenizer: Tokenizer, config: VocabularyConfig) -> "Vocabulary":
        """from_counts of texts at hand."""
        return cls.from_counts(Counter(word for text in texts for word in tokenizer(text)), tokenizer, config)

    def __len__(self) -> int:
        return len(self.words)

    def numbering(self) -> tuple[Callable[[str], int], Callable[[], Sequence[str]]]:
        """To encode a set of texts with: the id of a word, and, when all were asked for, the words by id."""
        if not self.open_ended:
            return lambda word: self.ids.get(word, UNK), lambda: self.words
        ids = dict(self.ids)
        return lambda word: ids.setdefault(word, len(SPECIALS) + len(ids)), lambda: [*SPECIALS, *ids]

    def encode(self, texts: Iterable[str]) -> EncodedTexts:
        """Tokenise and encode `texts`; a text without words is the two boundaries."""
        return self.encode_words(self.tokenizer(text) for text in texts)

    def encode_words(self, texts: Iterable[Iterable[str]]) -> EncodedTexts:
        """Encode texts that are words already: <s> words </s>."""
        id_of, words_by_id = self.numbering()
        chunks = [np.array([BOS, *map(id_of, words), EOS], dtype=np.int32) for words in texts]
        offsets = np.zeros(len(chunks) + 1, dtype=np.int64)
        np.cumsum([len(chunk) for chunk in chunks], out=offsets[1:])
        return EncodedTexts(
            np.concatenate(chunks) if chunks else np.zeros(0, np.int32), offsets, Lexicon(words_by_id())
        )
