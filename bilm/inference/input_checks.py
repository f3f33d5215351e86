"""What the library takes for texts: the same in ELMo, TextClassifier and ELMoVectorizer."""

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

# str() of these says what they are; that of others can be long, or run code of anybody's.
_SHOWN = (type(None), bool, int, float, complex, bytes, bytearray)
_ITEM = "a text (str) or a list of its words (list of str)"
_ITEMS = f"a list of texts, each {_ITEM},"


def check_texts(inputs: Any) -> list[str | list[str]]:
    """`inputs` as a list whose items are texts, or lists of words.

    inputs: an iterable of them with an order: a list, an array (N,), a Series, a generator. An array (N, 1) and a
    DataFrame of one column are that column. Raises TypeError for all else, naming the first item that is neither.
    """
    if isinstance(inputs, str):
        raise TypeError(f"{_ITEMS} is expected, not one str; for one text: [text]")
    if isinstance(inputs, bytes | bytearray | memoryview | Mapping | set | frozenset):
        raise TypeError(f"{_ITEMS} is expected, not {_described(inputs)}")
    return [check_text(item, f"item {i} (counted from 0)") for i, item in enumerate(_column(inputs))]


def check_text(item: Any, name: str = "the text") -> str | list[str]:
    """`item` where it is a text, or its words as a list. name: what a TypeError calls it."""
    if isinstance(item, str):
        return item
    no_words = bytes | bytearray | memoryview | Mapping | set | frozenset
    if isinstance(item, no_words) or not isinstance(item, Iterable) or getattr(item, "ndim", 1) != 1:
        raise TypeError(f"{name} is {_described(item)}; {_ITEM} is expected")
    words = list(item)
    for i, word in enumerate(words):
        if not isinstance(word, str):
            raise TypeError(f"word {i} (counted from 0) of {name} is {_described(word)}; a str is expected")
    return words


def _column(inputs: Any) -> Iterable[Any]:
    """`inputs`, or its only column. Arrays and tables are known by their shape, so that no library need be there."""
    shape = getattr(inputs, "shape", None)
    if shape is None or len(shape) == 1:
        if not isinstance(inputs, Iterable):
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
    return f"{reprlib.repr(value)} ({name})" if isinstance(value, _SHOWN) else f"of type {name}"
