"""What a line, a blank, a letter and a token are: one definition for files, standard input, the tokenizer, texts that
are already tokenised, and the split into training and validation rows.

Lines
    A line ends at "\\n" or "\\r\\n" and at no other character. A lone carriage return, a vertical tab, a form feed,
    U+0085 and U+2028 are part of the text, so that the number of lines is that of `wc -l`. Files are UTF-8, with or
    without a byte order mark.

Characters
    The classes are listed explicitly, because `\\w`, `\\s` and `str.split()` differ between Python's `re`, the package
    `regex` and `str`: a Hindi vowel sign, for example, is a word character in one of them and ends a word in another.

    letters, digits   characters for which `str.isalnum` or `str.isdecimal` is true (Python's Unicode tables)
    marks             accents, vowel signs and points (categories Mn, Mc, Me): part of the character before them
    joiners           invisible characters inside words: soft hyphen, ZWNJ, ZWJ, word joiner ...
    blanks            white space (`str.isspace`), the zero-width space U+200B, and marks of writing direction
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bilm.runtime.errors import UserError
from bilm.runtime.files import file_type

# --- lines ---------------------------------------------------------------------------------------------------------


def decoded_lines(file: Iterable[bytes], name: str | Path) -> Iterator[str]:
    """Yield the lines of a binary file as text, with their line ends.

    name: of the file, for messages. Raises UserError with the line and the byte that is not UTF-8.
    """
    # peek returns what a pipe has buffered; to read 64 bytes could wait for more than the first line.
    if hasattr(file, "peek") and (description := file_type(file.peek(64)[:64])):
        raise UserError(f"{name} is {description}.")
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name}, line {number}: byte 0x{error.object[error.start]:02x} is not UTF-8 (byte {error.start + 1} "
                "of the line). Save the file as UTF-8 (from Windows or Latin-1: iconv -f windows-1252 -t utf-8)."
            ) from error


def without_line_end(line: str) -> str:
    return line[:-2] if line.endswith("\r\n") else line.removesuffix("\n")


# --- characters -------------------------------------------------------------------------------------------------------

# Soft hyphen, Mongolian vowel separator, ZWNJ, ZWJ, word joiner, its older form U+FEFF, and the tags of flag emojis.
JOINERS = "\u00ad\u180e\u200c\u200d\u2060\ufeff\U000e0020-\U000e007f"
ASCII_BLANKS = r"\t-\r\x1c-\x20"
_INVISIBLE_BLANKS = (0x061C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
# All letters and marks of Unicode beyond ASCII are in these ranges.
_CODE_POINTS = (*range(0x80, 0x40000), *range(0xE0000, 0xE0200))


class CharacterClasses(NamedTuple):
    """Characters beyond ASCII, each class as the content of a character set of a regular expression ("à-öø-ÿ")."""

    letters: str
    digits: str
    marks: str
    blanks: str


@cache
def character_classes() -> CharacterClasses:
    """Classify all characters beyond ASCII. Takes a tenth of a second, once."""
    characters = list(map(chr, _CODE_POINTS))
    return CharacterClasses(
        letters=_ranges(c for c in characters if c.isalnum() and not c.isdecimal()),
        digits=_ranges(filter(str.isdecimal, characters)),
        marks=_ranges(c for c in characters if unicodedata.category(c).startswith("M")),
        blanks=_ranges(sorted([*filter(str.isspace, characters), *map(chr, _INVISIBLE_BLANKS)])),
    )


def _ranges(characters: Iterable[str]) -> str:
    """Write sorted characters as ranges, "a-cx-z"."""
    codes = np.array(list(map(ord, characters)))
    runs = np.split(codes, np.flatnonzero(np.diff(codes) > 1) + 1)
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)


def composed(text: str) -> str:
    """Return `text` in Unicode's composed form (NFC): letter and accent are one character if Unicode has one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def letters_and_digits(text: str) -> str:
    """Return only the letters, digits and marks of `text`, composed."""
    if text.isascii():
        return re.sub(r"[^A-Za-z0-9]+", "", text)
    return re.sub(_other_characters(), "", composed(text))


@cache
def _other_characters() -> str:
    classes = character_classes()
    return f"[^A-Za-z0-9{classes.letters}{classes.digits}{classes.marks}]+"


def collapse_blanks(text: str) -> str:
    """Replace each run of blanks by one U+0020, and remove blanks at both ends."""
    blanks = ASCII_BLANKS if text.isascii() else ASCII_BLANKS + character_classes().blanks
    return re.sub(f"[{blanks}]+", " ", text).strip(" ")


def split_tokens(text: str) -> list[str]:
    """Split a text that is already tokenised: tokens are separated by U+0020 or tabs, and by no other character."""
    return [token for token in re.split("[ \t]+", text) if token]
