"""The classes of characters beyond ASCII, and the functions that use them."""

import re
import sys
import unicodedata

import pytest

from bilm.text.text_rules import (
    ASCII_BLANKS,
    JOINERS,
    character_classes,
    collapse_blanks,
    composed,
    letters_and_digits,
    split_tokens,
)

EVERYTHING = "".join(map(chr, range(0x80, sys.maxunicode + 1)))
# Classes of embeddings, overrides and isolates of writing direction.
DIRECTIONS = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def characters_in(members: str) -> str:
    return "".join(re.findall(f"[{members}]", EVERYTHING))


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        ("letters", lambda c: c.isalnum() and not c.isdecimal()),
        ("digits", str.isdecimal),
        ("marks", lambda c: unicodedata.category(c) in ("Mn", "Mc", "Me")),
        (
            "blanks",
            lambda c: c.isspace() or unicodedata.bidirectional(c) in DIRECTIONS or c in "\u200b\u200e\u200f\u061c",
        ),
    ],
)
def test_classes_are_those_of_unicode(name, belongs):
    """In all planes of Unicode; and no character has two classes."""
    result = characters_in(getattr(character_classes(), name))
    assert result == "".join(filter(belongs, EVERYTHING))
    assert not set(result) & set(characters_in(JOINERS))


def test_blanks_of_ascii():
    blanks = [chr(code) for code in range(128) if chr(code).isspace()]
    assert [chr(code) for code in range(128) if re.match(f"[{ASCII_BLANKS}]", chr(code))] == blanks


OTHERS = "a\xa0b\u3000c\u2028d\x85e\x1cf\u200bg\rh\x0bi\x0cj\nk"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a b\tc", ["a", "b", "c"]),
        ("  a \t b  ", ["a", "b"]),
        (OTHERS, [OTHERS]),
        ("\u3000 .", ["\u3000", "."]),
        ("", []),
        (" \t", []),
    ],
)
def test_tokens(text, tokens):
    assert split_tokens(text) == tokens


def test_letters_digits_and_blanks():
    assert letters_and_digits("It's _1,200_ e\u0301t\u00e9, हिन्दी\u200b!") == "Its1200étéहिन्दी"
    assert collapse_blanks(" a\x1c\tb\xa0\u3000c\u200b\n") == "a b c"
    assert composed("e\u0301") == "é" and composed("plain") == "plain"
