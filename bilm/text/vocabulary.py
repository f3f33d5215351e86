"""Map words to ids, and words to characters as numbered by the original ELMo:

    "Bär"   <word>  66 195 164 114  </word>  <pad> <pad> ...       each number plus one, since 0 pads texts

Characters are the bytes of UTF-8, so that every word of every script has characters, and none is unknown.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from bilm.config import VocabularyConfig
from bilm.text.tokenizer import Tokenizer

PAD, UNK, BOS, EOS = range(4)
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")

TEXT_BEGIN, TEXT_END, WORD_BEGIN, WORD_END, WORD_PAD = range(257, 262)
NUM_CHARACTERS = 262
_NOT_ENCODED = -1


def characters_of(ids: np.ndarray, words: Sequence[str], length: int) -> np.ndarray:
    """Return the characters of N words: int16 (N, length). ids: int (N,), which identify the special words.

    A word longer than `length` - 2 bytes loses its end, an empty word is <word> </word>, and <pad> is all zeros.
    """
    characters = np.full((len(words), length), WORD_PAD, dtype=np.int16)
    characters[:, 0] = WORD_BEGIN
    for row, word in zip(characters, words, strict=True):
        letters = np.frombuffer(word.encode("utf-8", "ignore")[: length - 2], np.uint8)
        # No byte of UTF-8 is 255, so that this does not overflow.
        row[1 : len(letters) + 1] = letters + 1
        row[len(letters) + 1] = WORD_END
    for special, mark in ((BOS, TEXT_BEGIN), (EOS, TEXT_END)):
        characters[ids == special, 1:] = WORD_PAD
        characters[ids == special, 1:3] = mark, WORD_END
    characters[ids == PAD] = 0
    return characters


class Lexicon:
    """Words by id: those of a vocabulary, followed, if it is open-ended, by the other words of a set of texts."""

    def __init__(self, words: Sequence[str]):
        """The first four of `words` are SPECIALS."""
        self.words = words
        # What is computed from these words, by who computes it: see modules/token_layer.py.
        self.tables: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._characters = np.empty((0, 0), dtype=np.int16)

    def __len__(self) -> int:
        return len(self.words)

    def __reduce__(self) -> tuple[type, tuple[Sequence[str]]]:
        return Lexicon, (self.words,)  # tables are computed again where it is unpickled

    def characters_of(self, ids: Tensor, length: int) -> Tensor:
        """Return the characters of words (U,): int16 (U, length), on the device of `ids`. Each word is encoded once."""
        if self._characters.shape[1] != length:
            self._characters = np.full((len(self), length), _NOT_ENCODED, dtype=np.int16)
        indices = ids.cpu().numpy()
        new = indices[self._characters[indices, 0] == _NOT_ENCODED]
        self._characters[new] = characters_of(new, [self.words[i] for i in new], length)
        return torch.from_numpy(self._characters[indices]).to(ids.device)


@dataclass(frozen=True)
class EncodedTexts:
    """N texts as one flat array: text i is `ids[offsets[i]:offsets[i + 1]]`, with its boundaries.

    ids: int32 (total,), in memory or mapped from a file; offsets: int64 (N + 1,); lexicon: the words of the ids.
    """

    ids: np.ndarray
    offsets: np.ndarray
    lexicon: Lexicon | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each text, with its boundaries: int64 (N,)."""
        return np.diff(self.offsets)

    def words(self, rows: np.ndarray) -> list[list[str]]:
        """Return the words of these texts, without their boundaries. Raises ValueError without a lexicon."""
        if self.lexicon is None:
            raise ValueError("these texts have no words, only ids")
        words, bounds = self.lexicon.words, self.offsets
        return [[words[i] for i in self.ids[bounds[row] + 1 : bounds[row + 1] - 1].tolist()] for row in rows.tolist()]


class Vocabulary:
    """The four special words, then other words by decreasing frequency; and the tokenizer that found them.

    In a vocabulary that extends another one (`base_words` of `from_counts`), the new words follow the old ones, even if
    they are more frequent. The order matters to the adaptive softmax: words with high ids get narrower vectors.
    """

    def __init__(self, words: Sequence[str], tokenizer: Tokenizer, open_ended: bool = False):
        """Raises ValueError if `words` does not begin with SPECIALS, or has a word twice.

        open_ended: whether other words of a set of texts get ids of their own, after the vocabulary, instead of UNK.
        """
        if tuple(words[: len(SPECIALS)]) != SPECIALS:
            raise ValueError(f"a vocabulary begins with {SPECIALS}, this one with {tuple(words[:4])}")
        if len(set(words)) != len(words):
            raise ValueError("the vocabulary has a word twice")
        self.words = list(words)
        self.tokenizer = tokenizer
        self.open_ended = open_ended
        # Without the specials: a word of a text that is written like one is a word like any other.
        self.ids = {word: i for i, word in enumerate(self.words) if i >= len(SPECIALS)}

    def opened(self) -> "Vocabulary":
        """The same words, open-ended."""
        return Vocabulary(self.words, self.tokenizer, open_ended=True)

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], tokenizer: Tokenizer, config: VocabularyConfig, base_words: Sequence[str] = ()
    ) -> "Vocabulary":
        """Build a vocabulary from the word counts of training texts. Words of equal frequency are ordered by spelling.

        base_words: all words of another vocabulary, which keep their ids; the new words follow them, by decreasing
        frequency. Without base_words, if no word occurs `config.min_count` times, all words are included.
        """
        ranked = sorted(counts.keys() - set(base_words), key=lambda word: (-counts[word], word))
        frequent = [word for word in ranked if counts[word] >= config.min_count]
        if not frequent and not base_words:
            frequent = ranked
        first = base_words or SPECIALS
        return cls([*first, *frequent[: max(0, config.max_words - len(first))]], tokenizer)

    @classmethod
    def learn(cls, texts: Iterable[str], tokenizer: Tokenizer, config: VocabularyConfig) -> "Vocabulary":
        """Build a vocabulary from training texts."""
        return cls.from_counts(Counter(word for text in texts for word in tokenizer(text)), tokenizer, config)

    def __len__(self) -> int:
        return len(self.words)

    def numbering(self) -> tuple[Callable[[str], int], Callable[[], Sequence[str]]]:
        """Return two functions to encode a set of texts: word -> id, and, after all texts, () -> the words by id."""
        if not self.open_ended:
            return lambda word: self.ids.get(word, UNK), lambda: self.words
        ids = dict(self.ids)
        return lambda word: ids.setdefault(word, len(SPECIALS) + len(ids)), lambda: [*SPECIALS, *ids]

    def encode(self, texts: Iterable[str]) -> EncodedTexts:
        """Tokenise and encode `texts`; a text without words consists of its two boundaries."""
        return self.encode_words(self.tokenizer(text) for text in texts)

    def encode_words(self, texts: Iterable[Iterable[str]]) -> EncodedTexts:
        """Encode texts that are split into words: <s> words </s>."""
        id_of, words_by_id = self.numbering()
        chunks = [np.array([BOS, *map(id_of, words), EOS], dtype=np.int32) for words in texts]
        offsets = np.cumsum([0, *map(len, chunks)], dtype=np.int64)
        return EncodedTexts(np.concatenate([np.zeros(0, np.int32), *chunks]), offsets, Lexicon(words_by_id()))
