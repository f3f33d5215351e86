import numpy as np
import pytest

from bilm.config import TokenizerConfig, VocabularyConfig
from bilm.lexicon import BOS, EOS, SPECIALS, UNK
from bilm.vocabulary import Tokenizer, Vocabulary, clean


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("China #39;s growth", "China's growth"),
        ("they #39;ve waited", "they've waited"),
        ("the Tigers #39; win", "the Tigers ' win"),
        ("said  quot;yes, quot; and left", 'said  "yes, " and left'),
        ("Sports  amp; Entertainment", "Sports  & Entertainment"),
        ("a  #36;142.5 billion bill", "a  $142.5 billion bill"),
        (r"paid \$50 on\Tuesday", "paid $50 on Tuesday"),
        ("waves #151;eight or more", "waves -eight or more"),
        ("&lt;b&gt;bold&lt;/b&gt; move", " bold  move"),
        ("lt;b gt;bold lt;/b gt; move", " bold   move"),
        ('Deere &lt;A HREF="http://x.com/q?t=DE.N target=/a"&gt;DE.N&lt;/A&gt; said', "Deere  DE.N  said"),
        ("cut off &lt;A HREF=&quot;http://x.com", "cut off  "),
        ("if 3 &lt; 5", "if 3 < 5"),
        ("the season; the end; 7;", "the season; the end; 7;"),
        ("result; and AT&T;", "result; and AT&T;"),
    ],
)
def test_clean_undoes_what_feeds_did(raw, wanted):
    assert clean(raw) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("China's U.S. trip at 10:30 p.m.", ["china", "'s", "u.s.", "trip", "at", "10:30", "p.m."]),
        ("Don't pay 1,200.50!", ["don", "'t", "pay", "1,200.50", "!"]),
        ("a high-speed chase...", ["a", "high", "-", "speed", "chase", "..."]),
        ("J2SE 5.0 is out.", ["j2se", "5.0", "is", "out", "."]),
        ("Ünïcödé 東京", ["ünïcödé", "東京"]),
        ("", []),
        ("  \n\t ", []),
    ],
)
def test_words(text, wanted):
    assert Tokenizer()(text) == wanted


def test_tokenizer_settings():
    assert Tokenizer(TokenizerConfig(lowercase=False))("The END") == ["The", "END"]
    assert Tokenizer(TokenizerConfig(max_tokens=3))("a b c d e") == ["a", "b", "c"]


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


def test_a_marker_in_a_text_is_not_a_boundary(vocabulary):
    inside = vocabulary.encode(["a </s> b <s> <pad>"]).ids[1:-1]
    assert not set(inside.tolist()) & {0, BOS, EOS}


def test_a_vocabulary_must_be_one():
    with pytest.raises(ValueError, match="begins with"):
        Vocabulary(["a", "b", "c", "d"], Tokenizer())
    with pytest.raises(ValueError, match="twice"):
        Vocabulary([*SPECIALS, "a", "a"], Tokenizer())
