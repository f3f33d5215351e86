"""Text -> words.

The texts of AG News passed through several feeds on their way into the CSV: entities lost their ampersand
(`China #39;s`, `quot;`), backslashes stand for line breaks (`on\\Tuesday`) or before a dollar (`\\$50`), tags are
left over. `clean` undoes that, so that `China's` is one spelling wherever it came from.

There are two rules for what a word is:
    unicode   a word keeps its combining marks and joiners (see text_rules.py): "हिन्दी" is one word. Texts are composed
              (NFC) first. Scripts written without blanks, such as Thai, give one word per blank.
    legacy    as before that rule came: a mark ends a word. For files that were made by it.
On English they agree; on AG News and the sample they give the same words.
"""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from bilm.config import TokenizerConfig
from bilm.text.text_rules import ASCII_BLANKS, JOINERS, character_classes, composed

if TYPE_CHECKING:
    from nltk.tokenize.regexp import RegexpTokenizer


# Corpora on which both rules give the same words.
SAME_WORDS_BY_BOTH_RULES = ("ag_news", "sample")

# An entity whose ampersand is there, missing, or became a blank: "&amp;", "quot;", " #39;".
_ENTITY = re.compile(r"(?:&|(?<![\w&]))(#\d{1,6}|#x[0-9a-fA-F]{1,5}|quot|amp|lt|gt|nbsp|hellip|[lr][sd]quo|[mn]dash);")
# The blank that took the place of the ampersand, where it tears a word apart: "China #39;s", "Johnson  amp; Co".
_TORN_APOSTROPHE = re.compile(r" (?:#39|#8217|#146|rsquo);(?=(?:s|t|re|ve|ll|d|m)\b)", re.IGNORECASE)
# A tag, whole or cut off at the end of the text; "<" before a blank or a digit is a comparison, not a tag.
_TAG = re.compile(r"</?[A-Za-z][^<>]*(?:>|$)")
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "\xa0": " "})


def clean(text: str) -> str:
    """`text` without the traces of markup and feeds; see the module's first lines for what they are."""
    text = text.replace("\\$", "$").replace("\\", " ")
    # Most texts have no entity and no tag; to look for the one character is faster than for the pattern.
    if ";" in text:
        text = _TORN_APOSTROPHE.sub("'", text)
        text = _ENTITY.sub(lambda match: html.unescape(f"&{match.group(1)};"), text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    return text if text.isascii() else text.translate(_QUOTES)


@dataclass
class Tokenizer:
    """Callable: text -> at most `config.max_tokens` words; [] for nothing but blanks.

    num_texts, num_truncated: how many texts it was called with so far, and how many of them had more words than that.
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
        """All words of `text`."""
        if self.config.word_rule == "legacy":
            return _LEGACY_WORD.findall(self.cased(clean(text))) or _LEGACY_ANYTHING.findall(self.cased(text))
        text = composed(text)
        return _find_words(self.cased(clean(text))) or _find_words(self.cased(text), whatever_is_there=True)

    def words_of(self, text: str | Sequence[str]) -> list[str]:
        """The words that are read of a text, or of a list of words: all of those, as they are but for their case."""
        return self(text) if isinstance(text, str) else list(map(self.cased, text))

    def cased(self, text: str) -> str:
        """`text`, or a word, in lower case where the tokenizer has it so."""
        if not self.config.lowercase:
            return text
        # Lower case can be composed where upper case cannot: J and a caron are two characters, ǰ is one.
        return text.lower() if self.config.word_rule == "legacy" else composed(text.lower())


# --- rule "unicode" ---------------------------------------------------------------------------------------------------


def _find_words(text: str, whatever_is_there: bool = False) -> list[str]:
    """The words of a text by nltk's RegexpTokenizer."""
    # Nearly all English texts are ASCII, for which a short pattern finds the same words three times as fast.
    find = (_ascii_pattern if text.isascii() else _unicode_pattern)(whatever_is_there)
    try:
        return _regexp_tokenizer(find).tokenize(text)
    except TimeoutError:
        # nltk from 3.10 on gives a search a few seconds by the clock. `re` has no limit, and finds the same words.
        return re.findall(find, text)


@cache
def _regexp_tokenizer(pattern: str) -> "RegexpTokenizer":
    # Imports scipy and scikit-learn: seconds, for which no script should wait that tokenises nothing.
    from nltk.tokenize.regexp import RegexpTokenizer

    return RegexpTokenizer(pattern)


@cache
def _ascii_pattern(whatever_is_there: bool) -> str:
    character = "[A-Za-z0-9]"
    return _pattern("[A-Za-z]", "[0-9]", character, character, "", "", whatever_is_there)


@cache
def _unicode_pattern(whatever_is_there: bool) -> str:
    """Long sets are slow to search: a look-ahead keeps them from characters of ASCII."""
    letters, digits, marks, blanks = character_classes()
    no_ascii, word = r"(?![\x00-\x7f])", letters + digits + marks
    attached = f"(?:{no_ascii}[{marks}{JOINERS}])*"
    letter = f"(?:[A-Za-z]|{no_ascii}[{letters}]){attached}"
    digit = f"(?:[0-9]|{no_ascii}[{digits}])"
    first = f"(?:[A-Za-z0-9]|{no_ascii}[{word}])"
    inside = f"[A-Za-z0-9]+|{no_ascii}[{word}{JOINERS}]+"
    return _pattern(letter, digit, first, inside, attached, word + JOINERS + blanks, whatever_is_there)


def _pattern(
    letter: str, digit: str, first: str, inside: str, attached: str, no_sign: str, whatever_is_there: bool
) -> str:
    """Without flags, \\w, \\d, \\s and \\b, in which `re` and `regex` differ; nltk uses one of them, by its version.

    letter, digit: one, with its marks; first, inside: characters of a word; attached: marks and joiners behind a
    character; no_sign: what is no sign by itself, as the inside of a set. whatever_is_there: a pattern for texts in
    which the usual one finds nothing, such as "___".
    """
    word = f"{first}(?:{inside})*"
    parts = [
        f"{digit}+(?:[.,:]{digit}+)*{attached}",  # 2004  3.5  1,200  10:30
        rf"(?:{letter}\.){{2,}}",  # U.S.  p.m.
        f"'(?:[sSſ]|[tT]|[rR][eE]|[vV][eE]|[lL][lL]|[dD]|[mM])(?!_|{inside})",  # the end of China's, don't, we're
        word,  # words of any script, J2SE
        r"\.\.\.",
        f"[^A-Za-z0-9_{ASCII_BLANKS}{no_sign}]{attached}",  # every other sign by itself
    ]
    if whatever_is_there:
        parts = [word, f"[^A-Za-z0-9{ASCII_BLANKS}{no_sign}]{attached}"]
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
    """The settings that a language model's file holds; info: what it says of its training (see ELMO.py).

    Files of before the rule "unicode" name no rule. What they learned from AG News or the sample alone fits it.
    Raises TypeError or ValueError where these are no such settings.
    """
    other_texts = {"unlabelled", "start"} & {*info.get("data", {}), *info["settings"]}
    fits = info.get("corpus") in SAME_WORDS_BY_BOTH_RULES and not other_texts
    return TokenizerConfig(**{"word_rule": "unicode" if fits else "legacy", **saved})


def comparable_settings(settings: Mapping[str, Any], same_words_by_both_rules: bool) -> dict[str, Any]:
    """Those by which two runs, or two encoded corpora, are compared: the rule for words only where it matters."""
    return {name: v for name, v in settings.items() if not (name == "word_rule" and same_words_by_both_rules)}
