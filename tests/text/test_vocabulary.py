import numpy as np
import pytest

from bilm.config import VocabularyConfig
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import BOS, EOS, SPECIALS, UNK, Vocabulary


def test_words_are_ranked_by_frequency_then_spelling():
    vocabulary = Vocabulary.learn(["b a c c", "c a b x"], Tokenizer(), VocabularyConfig(min_count=2))
    assert vocabulary.words == [*SPECIALS, "c", "a", "b"]
    small = Vocabulary.learn(["b a c c", "c a b x"], Tokenizer(), VocabularyConfig(min_count=1, max_words=6))
    assert small.words == [*SPECIALS, "c", "a"]


def test_encoding_marks_boundaries_and_unknown_words():
    vocabulary = Vocabulary.learn(["stocks fell", "stocks rose"], Tokenizer(), VocabularyConfig(min_count=2))
    encoded = vocabulary.encode(["stocks soared", ""])
    assert encoded.ids.tolist() == [BOS, vocabulary.ids["stocks"], UNK, EOS, BOS, EOS]
    assert encoded.offsets.tolist() == [0, 4, 6]
    assert encoded.lengths.tolist() == [4, 2]
    assert encoded.ids.dtype == np.int32
    assert len(vocabulary.encode([])) == 0


def test_a_special_word_in_a_text_is_not_a_boundary(vocabulary):
    inside = vocabulary.encode(["a </s> b <s> <pad>"]).ids[1:-1]
    assert not set(inside.tolist()) & {0, BOS, EOS}


def test_words_that_are_not_a_vocabulary_are_refused():
    with pytest.raises(ValueError, match="begins with"):
        Vocabulary(["a", "b", "c", "d"], Tokenizer())
    with pytest.raises(ValueError, match="twice"):
        Vocabulary([*SPECIALS, "a", "a"], Tokenizer())
