"""Split texts into words.

The texts of AG News contain traces of the feeds that they were collected from: entities without their ampersand
(`China #39;s`, `quot;`), backslashes in place of line breaks (`on\\Tuesday`) or before a dollar (`\\$50`), and HTML
tags. `clean` removes them, so that `China's` has one spelling.

There are two rules for what a word is:
    unicode   a word includes its combining marks and joiners (see text_rules.py): "हिन्दी" is one word. Texts are
              composed (NFC) first. Scripts written without blanks, such as Thai, give one word between two blanks.
    legacy    the rule of earlier versions: a mark ends a word. For files that were made with it.
They agree on English, and give the same words on AG News and the sample.
"""

import html
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from bilm.config import TokenizerConfig
from bilm.text.text_rules import ASCII_BLANKS, JOINERS, character_classes, composed

# Corpora on which both rules give the same words.
SAME_WORDS_BY_BOTH_RULES = ("ag_news", "sample")

# An entity with its ampersand, without it, or with a blank in place of it: "&amp;", "quot;", " #39;".
_ENTITY = re.compile(r"(?:&|(?<![\w&]))(#\d{1,6}|#x[0-9a-fA-F]{1,5}|quot|amp|lt|gt|nbsp|hellip|[lr][sd]quo|[mn]dash);")
# Of ASCII, the characters that are entities without their ampersand in the feeds; "bus #65;" means the number.
_ASCII_ENTITIES = frozenset("\"$%&'<>")
# An entity for an apostrophe inside a word, with a blank in place of the ampersand: "China #39;s".
_APOSTROPHE = re.compile(r" (?:#39|#8217|#146|rsquo);(?=(?:s|t|re|ve|ll|d|m)\b)", re.IGNORECASE)
# A tag, with attributes or without: "<b>", "</p>", "<br />", "<a href=x>", also a ticker symbol in place of a tag,
# "<MSFT.O>"; or an attribute's quotation mark in a tag that is cut off at the end. Neither "x<y", "a <b but > c" nor
# "<Ctrl+C>" is one.
_TAG = re.compile(r"</?[A-Za-z][\w.:-]*(?:\s+[\w:-]+\s*=[^<>]*|\s*/?)>|<[A-Za-z]\w*\s+[\w-]+\s*=\s*[\"'][^<>]*$")
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "\xa0": " "})


def clean(text: str) -> str:
    """Remove traces of markup and feeds, which the first lines of this module list."""
    text = text.replace("\\$", "$").replace("\\", " ")
    # Most texts have no entity and no tag; the search for one character is faster than that for a pattern.
    if ";" in text:
        text = _APOSTROPHE.sub("'", text)
        text = _ENTITY.sub(_character_of, text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    return text if text.isascii() else text.translate(_QUOTES)


def _character_of(entity: re.Match[str]) -> str:
    character = html.unescape(f"&{entity[1]};")
    is_one = entity[0].startswith("&") or character in _ASCII_ENTITIES or "\x7f" < character != "\ufffd"
    return character if is_one else entity[0]


# Texts of a tokenizer before nltk is imported. The import takes 1.5 s, longer than everything else that a command does
# with a few texts.
FEW_TEXTS = 100


@dataclass
class Tokenizer:
    """A callable that splits a text into at most `config.max_tokens` words; [] for a text of blanks.

    num_texts, num_truncated: the number of texts that it has been called with, and of those with more words than that.
    """

    config: TokenizerConfig = field(default_factory=TokenizerConfig)
    num_texts: int = field(default=0, init=False, compare=False)
    num_truncated: int = field(default=0, init=False, compare=False)

    def __call__(self, text: str) -> list[str]:
        words = self.split(text)
        self.num_texts += 1
        self.num_truncated += len(words) > self.config.max_tokens
        return words[: self.config.max_tokens]

    def split(self, text: str) -> list[str]:
        """Return all words of `text`."""
        if self.config.word_rule == "legacy":
            return _LEGACY_WORD.findall(self.cased(clean(text))) or _LEGACY_ANYTHING.findall(self.cased(text))
        text, few = composed(text), self.num_texts < FEW_TEXTS
        return _find_words(self.cased(clean(text)), few) or _find_words(self.cased(text), few, fallback=True)

    def words_of(self, text: str | Sequence[str]) -> list[str]:
        """Return the words of a text, or all words of a list of words, with only their case changed."""
        return self(text) if isinstance(text, str) else list(map(self.cased, text))

    def cased(self, text: str) -> str:
        """Return `text`, or a word, in lower case if `config.lowercase` is set."""
        if not self.config.lowercase:
            return text
        # Lower case can be composed where upper case cannot: J and a caron are two characters, ǰ is one.
        return text.lower() if self.config.word_rule == "legacy" else composed(text.lower())


# --- rule "unicode" ---------------------------------------------------------------------------------------------------


def _find_words(text: str, few: bool, fallback: bool = False) -> list[str]:
    """Find the words of a text with nltk's RegexpTokenizer.

    few: use `re` unless nltk is already imported; it finds the same words. fallback: see _word_pattern.
    """
    # Nearly all English texts are ASCII, for which a short pattern finds the same words three times as fast.
    pattern = _word_pattern(text.isascii(), fallback)
    if few and "nltk" not in sys.modules:
        return re.findall(pattern, text)
    try:
        return _nltk_tokenize(pattern)(text)
    except TimeoutError:
        # nltk 3.10 and later limit the time of a search. `re` has no limit, and finds the same words.
        return re.findall(pattern, text)


@cache
def _nltk_tokenize(pattern: str) -> Callable[[str], list[str]]:
    # Imports scipy and scikit-learn as well: see FEW_TEXTS.
    from nltk.tokenize.regexp import RegexpTokenizer

    tokenize: Callable[[str], list[str]] = RegexpTokenizer(pattern).tokenize
    return tokenize


@cache
def _word_pattern(is_ascii: bool, fallback: bool) -> str:
    """Write the pattern of a word, for texts in ASCII or for all texts.

    It has no flags, \\w, \\d, \\s or \\b, in which `re` and `regex` differ; nltk uses one of the two, by its version.
    fallback: for texts in which the usual pattern finds no word, such as "___".
    """
    # A letter and a digit with their marks; the first and the following characters of a word; the marks and joiners
    # after a character; the characters that are not signs, for a character set.
    letter, digit, first, inside, attached, no_sign = "[A-Za-z]", "[0-9]", "[A-Za-z0-9]", "[A-Za-z0-9]", "", ""
    if not is_ascii:
        letters, digits, marks, blanks = character_classes()
        # Long sets are slow to search: a look-ahead excludes ASCII from them.
        no_ascii, word = r"(?![\x00-\x7f])", letters + digits + marks
        attached = f"(?:{no_ascii}[{marks}{JOINERS}])*"
        letter = f"(?:[A-Za-z]|{no_ascii}[{letters}]){attached}"
        digit = f"(?:[0-9]|{no_ascii}[{digits}])"
        first = f"(?:[A-Za-z0-9]|{no_ascii}[{word}])"
        inside = f"[A-Za-z0-9]+|{no_ascii}[{word}{JOINERS}]+"
        no_sign = word + JOINERS + blanks
    any_word = f"{first}(?:{inside})*"
    if fallback:
        return f"{any_word}|[^A-Za-z0-9{ASCII_BLANKS}{no_sign}]{attached}"
    parts = (
        f"{digit}+(?:[.,:]{digit}+)*{attached}",  # 2004  3.5  1,200  10:30
        rf"(?:{letter}\.){{2,}}",  # U.S.  p.m.
        f"'(?:[sSſ]|[tT]|[rR][eE]|[vV][eE]|[lL][lL]|[dD]|[mM])(?!_|{inside})",  # the end of China's, don't, we're
        any_word,  # words of any script, J2SE
        r"\.\.\.",
        f"[^A-Za-z0-9_{ASCII_BLANKS}{no_sign}]{attached}",  # every other sign by itself
    )
    return "|".join(parts)


# --- rule "legacy" ----------------------------------------------------------------------------------------------------

_LEGACY_WORD = re.compile(
    r"""\d+(?:[.,:]\d+)*
      | (?:[^\W\d_]\.){2,}
      | '(?:s|t|re|ve|ll|d|m)\b
      | [^\W_]+
      | \.\.\.
      | [^\w\s]
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LEGACY_ANYTHING = re.compile(r"[^\W_]+|\S")


# --- settings in files ------------------------------------------------------------------------------------------------


def read_config(saved: Mapping[str, Any], info: Mapping[str, Any]) -> TokenizerConfig:
    """Read the tokenizer settings in a language model's file. info: its record of the training (see ELMO.py).

    Files of earlier versions name no rule; those trained on AG News or the sample alone are read as "unicode", which
    gives the same words. Raises TypeError or ValueError if `saved` is not valid.
    """
    other_texts = {"unlabelled", "start"} & {*info.get("data", {}), *info["settings"]}
    rule = "unicode" if info.get("corpus") in SAME_WORDS_BY_BOTH_RULES and not other_texts else "legacy"
    return TokenizerConfig(**{"word_rule": rule, **saved})


def comparable_settings(settings: Mapping[str, Any], same_words_by_both_rules: bool) -> dict[str, Any]:
    """Return the settings in which two runs, or two encoded corpora, must agree: the word rule only if it matters."""
    return {name: v for name, v in settings.items() if not (name == "word_rule" and same_words_by_both_rules)}
