"""Splitting texts into words by both rules, with the same result for both engines that nltk compiles patterns with."""

import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import regex
from conftest import ROOT, SAMPLE
from hypothesis import example, given
from hypothesis import strategies as st

from bilm.config import TokenizerConfig
from bilm.text import tokenizer as tokenizer_module
from bilm.text.ag_news import read_ag_news
from bilm.text.tokenizer import Tokenizer, clean, comparable_settings, read_config

LEGACY = Tokenizer(TokenizerConfig(word_rule="legacy"))
# Characters for which the patterns have a rule, so that they are frequent in random texts.
SPECIAL = "aZſé1٣²'._-,: \t\n\r\x1c\x85\xa0\u3000\u2028\u200b\u200e\u200c\u200d\u00ad\ufeff\u0301ि्İß😀\ufe0f"
SPECIAL += "\u20e3‿中ก\ud800\x00"
TEXTS = st.text(st.one_of(st.sampled_from(SPECIAL), st.characters(codec=None)), max_size=40)


@pytest.mark.parametrize(
    ("raw", "expected"),
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
        ("Intel &lt;INTC.O&gt; fell<br/>or <p align = left>rose</FONT >", "Intel   fell or  rose "),
        ("use p<alpha: the coach won", "use p<alpha: the coach won"),
        ("a <b but > c, b<c and c=d>e", "a <b but > c, b<c and c=d>e"),
        ("<Ctrl+C>, <x@y.org> and <https://x.org/> stay", "<Ctrl+C>, <x@y.org> and <https://x.org/> stay"),
        ("Shares (<USD 5) fell", "Shares (<USD 5) fell"),
        ("bus #65; in #1; #0; room #50; and &#65; #233;", "bus #65; in #1; #0; room #50; and A é"),
        ("the season; the end; 7;", "the season; the end; 7;"),
        ("result; and AT&T;", "result; and AT&T;"),
    ],
)
def test_clean_removes_traces_of_feeds(raw, expected):
    assert clean(raw) == expected


@pytest.mark.parametrize("unit", ["<a b=", " ", "<a ", "x<y ", "<a b = '", "#1;", "&", "<a" + "-" * 9])
def test_cleaning_takes_time_in_proportion_to_the_text(unit):
    """A pattern that goes back over what it has read takes hours here."""
    clean("<a b= " + unit * 200_000 + ";")


@pytest.mark.parametrize(
    ("text", "expected"),
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
def test_words(text, expected):
    assert Tokenizer()(text) == expected


def test_tokenizer_settings():
    assert Tokenizer(TokenizerConfig(lowercase=False))("The END") == ["The", "END"]
    assert Tokenizer(TokenizerConfig(max_tokens=3))("a b c d e") == ["a", "b", "c"]


def test_both_rules_agree_on_english():
    for text in (
        "Don't pay 1,200.50!",
        "China's U.S. trip at 10:30 p.m.",
        "___",
        "caf\u00e9 \u20ac5",
        "a\x1cb\x85c\xa0d",
    ):
        assert Tokenizer()(text) == LEGACY(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("हिन्दी समाचार", ["हिन्दी", "समाचार"]),
        ("தமிழ் செய்தி।", ["தமிழ்", "செய்தி", "।"]),
        ("বাংলা ১২.৫", ["বাংলা", "১২.৫"]),
        ("ภาษาไทย ข่าว", ["ภาษาไทย", "ข่าว"]),
        ("عَرَبِيّ", ["عَرَبِيّ"]),
        ("שָׁלוֹם", [unicodedata.normalize("NFC", "שָׁלוֹם")]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("ക്\u200d \u200dक", ["ക്\u200d", "क"]),
        ("hy\u00adphen \u00ad", ["hy\u00adphen"]),
        ("one\u200btwo\u200e three\u2067four", ["one", "two", "three", "four"]),
        ("İstanbul", ["i\u0307stanbul"]),
        ("Cafe\u0301 J\u030c", ["café", "ǰ"]),
        ("❤️ 1️⃣ 👩\u200d🚀", ["❤️", "1️⃣", "👩\u200d", "🚀"]),
        ("ка\u0301к-то it's it'sं", ["ка\u0301к", "-", "то", "it", "'s", "it", "'", "sं"]),
        ("a.\u0301b", ["a", ".\u0301", "b"]),
        ("é.à. ³²", ["é.à.", "³²"]),
        ("\u0301", ["\u0301"]),
        ("\u200b\u3000\u200d", []),
    ],
)
def test_words_of_many_scripts(text, expected):
    assert Tokenizer()(text) == expected


def test_a_word_between_blanks_is_one_word():
    """In each script, with each mark after a letter; `legacy` splits these words."""
    for name, marks in (("DEVANAGARI", "ि्ंः"), ("TAMIL", "ி்"), ("BENGALI", "ি্ং"), ("MYANMAR", "ိ့"), ("KHMER", "ិ៉")):
        letter = unicodedata.lookup(f"{name} LETTER KA")
        for mark in marks:
            assert Tokenizer()(f"{letter}{mark}{letter} x") == [f"{letter}{mark}{letter}", "x"]
    assert len(LEGACY("हिन्दी समाचार")) == 11


def test_cased_words_are_composed_only_with_their_case():
    assert Tokenizer().cased("Cafe\u0301") == "café"
    cased = Tokenizer(TokenizerConfig(lowercase=False))
    assert cased.cased("Cafe\u0301") == "Cafe\u0301" and cased("Cafe\u0301") == ["Café"]
    assert LEGACY.cased("Cafe\u0301") == "cafe\u0301"


@given(TEXTS, st.booleans())
@example("'s\u0301", False)
def test_both_engines_find_the_same_words(text, fallback):
    """nltk compiles with `re` or with `regex`, by its version."""
    for pattern in (tokenizer_module._word_pattern(False, fallback), tokenizer_module._word_pattern(True, False)):
        assert re.findall(pattern, text) == regex.findall(pattern, text)


@given(st.text(st.characters(max_codepoint=127)), st.booleans())
def test_ascii_texts_need_only_the_short_pattern(text, fallback):
    short, long = (tokenizer_module._word_pattern(is_ascii, fallback) for is_ascii in (True, False))
    assert re.findall(short, text) == re.findall(long, text)


@given(TEXTS)
def test_nothing_visible_is_lost_and_no_word_has_a_blank(text):
    words = Tokenizer(TokenizerConfig(max_tokens=1000, lowercase=False))(text)
    assert all(words) and not any(re.search(r"\s|\u200b", word) for word in words)
    if set(text) <= set("éaZ1 中\u0301ि"):
        assert "".join(words) == "".join(unicodedata.normalize("NFC", text).split(" "))


def test_a_time_limit_of_nltk_never_reaches_the_user(monkeypatch):
    text = "Stocks fell in हिन्दी. " * 3
    monkeypatch.setattr(tokenizer_module, "FEW_TEXTS", 0)
    expected = Tokenizer()(text)

    def time_out(text):
        raise TimeoutError

    monkeypatch.setattr(tokenizer_module, "_nltk_tokenize", lambda pattern: time_out)
    assert Tokenizer()(text) == expected


def test_long_texts_do_not_take_quadratic_time():
    words = Tokenizer(TokenizerConfig(max_tokens=10**6))
    for piece in ("word ", "1.", "a.", "'s", "हि", "e\u0301", "....", "x\u200d", "_"):
        assert len(words(piece * 20_000)) > 0


def rows_differ(path) -> list[str]:
    new, old = (Tokenizer(TokenizerConfig(word_rule=rule, max_tokens=10**6)) for rule in ("unicode", "legacy"))
    return [text for _, text in read_ag_news(path) if new(text) != old(text)]


@pytest.mark.parametrize("split", ["train", "test"])
def test_both_rules_give_the_same_words_on_the_sample(split):
    assert rows_differ(SAMPLE / f"{split}.csv") == []


@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get("AG_NEWS_DIR"), reason="AG_NEWS_DIR is not set")
@pytest.mark.parametrize("split", [pytest.param("train", marks=pytest.mark.slow), "test"])
def test_both_rules_give_the_same_words_on_ag_news(split):
    assert rows_differ(Path(os.environ["AG_NEWS_DIR"]) / f"{split}.csv") == []


def test_the_rule_of_a_file_without_one():
    saved = {"lowercase": True, "max_tokens": 128}
    settings = {"corpus": "1a2b"}
    for info, rule in (
        ({"corpus": "ag_news"}, "unicode"),
        ({"corpus": "sample", "data": {"file": "train.csv"}}, "unicode"),
        ({"corpus": "reviews"}, "legacy"),
        ({"corpus": "of the original ELMo"}, "legacy"),
        ({"corpus": "ag_news", "data": {"unlabelled": {}}}, "legacy"),
        ({"corpus": "ag_news", "data": {"start": {}}}, "legacy"),
        ({}, "legacy"),
    ):
        assert read_config(saved, {"settings": settings, **info}) == TokenizerConfig(word_rule=rule), info
    assert read_config(saved | {"word_rule": "unicode"}, {"corpus": "reviews", "settings": {}}).word_rule == "unicode"
    with pytest.raises(ValueError, match="'other'; it can be unicode or legacy"):
        read_config(saved | {"word_rule": "other"}, {"settings": {}})


def test_settings_differ_in_the_rule_only_if_it_matters():
    settings = {"seed": 0, "word_rule": "unicode"}
    assert comparable_settings(settings, False) == settings
    assert comparable_settings(settings, True) == {"seed": 0}


def test_nltk_is_imported_for_many_texts_only():
    code = (
        "import sys; from bilm.text.tokenizer import FEW_TEXTS, Tokenizer; t = Tokenizer(); "
        "[t('a') for _ in range(FEW_TEXTS)]; print('nltk' in sys.modules); t('a'); print('nltk' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.split() == [b"False", b"True"]


def test_truncated_texts_are_counted():
    tokenizer = Tokenizer(TokenizerConfig(max_tokens=2))
    assert [tokenizer(text) for text in ("a b c", "a b", "", "a b c d")] == [["a", "b"], ["a", "b"], [], ["a", "b"]]
    assert (tokenizer.num_texts, tokenizer.num_truncated) == (4, 2)
    assert tokenizer == Tokenizer(TokenizerConfig(max_tokens=2))
