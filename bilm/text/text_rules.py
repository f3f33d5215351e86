"""What a line, a blank, a letter and a token are: decided once, for files, standard input, the tokenizer, `--tokenized`
and the split of rows.

Lines
    A line ends at "\\n" or "\\r\\n", and nowhere else. A lone carriage return, a vertical tab, a form feed, U+0085 and
    U+2028 are part of the text, so that there are as many lines as `wc -l` counts. Files are UTF-8, with or without a
    byte order mark.

Characters
    Written out one by one, because `\\w`, `\\s` and `str.split()` differ between Python's `re`, the package `regex` and
    `str`: a vowel sign of Hindi, for instance, is a word character in one of them and ends a word in another.

    letters, digits   what `str.isalnum` and `str.isdecimal` say, from Python's Unicode tables
    marks             accents, vowel signs and points (categories Mn, Mc, Me): part of the character before them
    joiners           invisible characters that belong to the word around them: soft hyphen, ZWNJ, ZWJ, word joiner ...
    blanks            white space (`str.isspace`), the zero-width space U+200B, and marks of writing direction
"""

import codecs
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bilm.runtime.errors import UserError
from bilm.runtime.files import file_type

# --- lines ---------------------------------------------------------------------------------------------------------


def decoded_lines(file: Iterable[bytes], name: str | Path) -> Iterator[str]:
    """The lines of a binary file, with what ends them. Raises UserError with line and byte of what is not UTF-8."""
    # Of a pipe this takes what has arrived, so that it does not wait for more than a line.
    if hasattr(file, "peek") and (found := file_type(file.peek(64)[:64])):
        raise UserError(f"{name} is {found}.")
    for number, line in enumerate(file, start=1):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8 (byte {error.start + 1} of the "
                "line). Save the file as UTF-8 (from Latin-1: iconv -f latin1 -t utf-8)."
            ) from error
        yield text


def without_line_end(line: str) -> str:
    return line[:-2] if line.endswith("\r\n") else line.removesuffix("\n")


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
