"""Checks of the texts that ELMo, TextClassifier and ELMoVectorizer accept, with the same messages in all of them."""

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

# Types whose values are printed in messages; the repr of other types can be long, or run arbitrary code.
_PRINTED = (type(None), bool, int, float, complex, bytes, bytearray)
_NOT_A_LIST = bytes | bytearray | memoryview | Mapping | set | frozenset
_ITEM = "a text (str) or a list of its words (list of str)"
_ITEMS = f"a list of texts, each {_ITEM},"


def check_texts(inputs: Any) -> list[str | list[str]]:
    """Return `inputs` as a list of texts or of lists of words.

    inputs: an ordered iterable of them: a list, an array (N,), a Series, a generator. An array (N, 1) or a DataFrame
    with one column counts as this column. Raises TypeError for everything else, with the number of the first item that
    is neither a text nor a list of words.
    """
    if isinstance(inputs, str):
        raise TypeError(f"{_ITEMS} is expected, not one str; for one text: [text]")
    return [check_text(item, f"item {i} (counted from 0)") for i, item in enumerate(_column(inputs))]


def check_text(item: Any, name: str = "the text") -> str | list[str]:
    """Return a text unchanged, words as a list. name: of the item in the message of a TypeError."""
    if isinstance(item, str):
        return item
    if isinstance(item, _NOT_A_LIST) or not isinstance(item, Iterable) or getattr(item, "ndim", 1) != 1:
        raise TypeError(f"{name} is {_described(item)}; {_ITEM} is expected")
    words = list(item)
    for i, word in enumerate(words):
        if not isinstance(word, str):
            raise TypeError(f"word {i} (counted from 0) of {name} is {_described(word)}; a str is expected")
    # A tokenizer leaves no space in a word: these are rows of a table, or texts in one list too many.
    if words and all(" " in word for word in words):
        raise TypeError(f"{name} is a list of texts, where a list of words is expected; for a text give the str itself")
    return words


def _column(inputs: Any) -> Iterable[Any]:
    """Return `inputs`, or its only column. Arrays and tables are recognized by their shape; pandas is not imported."""
    shape = getattr(inputs, "shape", None)
    if shape is None or len(shape) == 1:
        if isinstance(inputs, _NOT_A_LIST) or not isinstance(inputs, Iterable):
            raise TypeError(f"{_ITEMS} is expected, not {_described(inputs)}")
        return inputs
    if len(shape) == 2 and shape[1] == 1:
        cells = np.asarray(inputs, dtype=object)
        if cells.shape == tuple(shape):
            return cells[:, 0]
    raise TypeError(
        f"{_ITEMS} is expected, not {_described(inputs)} of shape {tuple(shape)}; of a table give one column"
    )


def _described(value: Any) -> str:
    name = type(value).__name__
    return f"{reprlib.repr(value)} ({name})" if isinstance(value, _PRINTED) else f"of type {name}"
