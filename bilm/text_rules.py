"""What a blank, a letter and a token are: decided once, for the tokenizer, `--tokenized` and the split of rows.

Written out character by character, because `\\w`, `\\s` and `str.split()` differ between Python's `re`, the package
`regex` and `str`: a vowel sign of Hindi, for instance, is a word character in one of them and ends a word in another.

    letters, digits   what `str.isalnum` and `str.isdecimal` say, from Python's Unicode tables
    marks             accents, vowel signs and points (categories Mn, Mc, Me): part of the character before them
    joiners           invisible characters that belong to the word around them: soft hyphen, ZWNJ, ZWJ, word joiner ...
    blanks            white space (`str.isspace`), the zero-width space U+200B, and marks of writing direction
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

# --- characters -------------------------------------------------------------------------------------------------------

# Soft hyphen, Mongolian vowel separator, ZWNJ, ZWJ, word joiner, its older form U+FEFF, and the tags of flag emojis.
JOINERS = "\u00ad\u180e\u200c\u200d\u2060\ufeff\U000e0020-\U000e007f"
ASCII_BLANKS = r"\t-\r\x1c-\x20"
_INVISIBLE_BLANKS = (0x061C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
# The planes of Unicode that hold letters and marks.
_CODE_POINTS = (*range(0x80, 0x40000), *range(0xE0000, 0xE0200))


class CharacterClasses(NamedTuple):
    """Characters beyond ASCII, each class as the inside of a set of a regular expression ("à-öø-ÿ")."""

    letters: str
    digits: str
    marks: str
    blanks: str


@cache
def character_classes() -> CharacterClasses:
    """Takes a tenth of a second, once."""
    letters, digits, marks, blanks = [], [], [], list(_INVISIBLE_BLANKS)
    for code in _CODE_POINTS:
        character = chr(code)
        if character.isdecimal():
            digits.append(code)
        elif character.isalnum():
            letters.append(code)
        elif character.isspace():
            blanks.append(code)
        elif unicodedata.category(character).startswith("M"):
            marks.append(code)
    return CharacterClasses(*map(_ranges, (letters, digits, marks, sorted(blanks))))


def _ranges(codes: Iterable[int]) -> str:
    """Sorted code points as ranges, "a-cx-z"."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


def composed(text: str) -> str:
    """`text` in Unicode's composed form (NFC): a letter and its accent are one character where there is one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def letters_and_digits(text: str) -> str:
    """The letters, digits and marks of `text`, without all that stands between them."""
    if text.isascii():
        return re.sub(r"[^A-Za-z0-9]+", "", text)
    return re.sub(_not_letters(), "", composed(text))


@cache
def _not_letters() -> str:
    classes = character_classes()
    return f"[^A-Za-z0-9{classes.letters}{classes.digits}{classes.marks}]+"


def collapse_blanks(text: str) -> str:
    """One U+0020 for each run of blanks, none at either end."""
    blanks = ASCII_BLANKS if text.isascii() else ASCII_BLANKS + character_classes().blanks
    return re.sub(f"[{blanks}]+", " ", text).strip(" ")


def split_tokens(text: str) -> list[str]:
    """The tokens of a text that is tokenised already: parted by U+0020 or a tab, and by no other character."""
    return [token for token in re.split("[ \t]+", text) if token]
