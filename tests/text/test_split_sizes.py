"""How many rows are for validation, and which of those without a label or with hardly a letter count as one."""

import hashlib
import unicodedata

import numpy as np
import pytest

from bilm.runtime.errors import UserError
from bilm.text.custom_dataset import NO_LABEL
from bilm.text.split import split_validation, text_key


def first_eight_bytes(content: str) -> int:
    return int(hashlib.sha256(content.encode()).hexdigest()[:16], 16)


def rows_of(counts: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and keys of so many texts of each class, shuffled."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(list(counts), list(counts.values())))
    return labels, random.integers(1, 2**63, len(labels)).astype(np.uint64)


# A twentieth; of few texts ten, but at most a quarter, and at least one.
SIZES = {2: 1, 3: 1, 4: 1, 7: 1, 8: 2, 12: 3, 39: 9, 40: 10, 100: 10, 200: 10, 209: 10, 220: 11, 400: 20, 2000: 100}


@pytest.mark.parametrize(("texts", "expected"), SIZES.items())
def test_the_share_for_validation(texts, expected):
    labels, keys = rows_of({0: texts, 1: 50})
    training, validation = split_validation(labels, keys)
    assert (labels[validation] == 0).sum() == expected and (labels[validation] == 1).sum() == 10
    assert sorted([*training, *validation]) == list(range(texts + 50))


def test_of_each_class_the_smallest_keys():
    labels, keys = rows_of({0: 60, 3: 45})
    _, validation = split_validation(labels, keys)
    for label in (0, 3):
        smallest = sorted(keys[labels == label])[:10]
        assert sorted(keys[validation][labels[validation] == label]) == smallest


def test_a_text_of_two_labels_counts_for_that_of_its_first_row():
    """Ten texts of class 0 in rows of their own, and all of them again in rows of class 1, which has 40 more."""
    keys = np.array([*range(1, 11), *range(1, 11), *range(100, 140)], dtype=np.uint64)
    labels = np.repeat([0, 1, 1], [10, 10, 40])
    _, validation = split_validation(labels, keys)
    assert validation.tolist() == [0, 1, 10, 11, *range(20, 30)]


def test_rows_without_a_label_are_for_training_unless_none_has_one():
    labels, keys = rows_of({NO_LABEL: 100, 1: 60})
    training, validation = split_validation(labels, keys)
    assert (labels[validation] == 1).all() and len(validation) == 10 and len(training) == 150
    nothing = np.full(160, NO_LABEL)
    training, validation = split_validation(nothing, keys)
    assert len(validation) == 10 and len(training) == 150


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([NO_LABEL], "there is a single distinct text among the 1 training rows"),
        ([0, 0, 1], "class 'second' has a single distinct text among the 3 training rows"),
    ],
)
def test_a_single_text_cannot_be_on_both_sides(labels, message):
    keys = np.arange(len(labels), dtype=np.uint64)
    with pytest.raises(UserError, match=message):
        split_validation(np.array(labels), keys, ["first", "second"])
    split_validation(np.array([0, 0, 1, 1]), np.arange(4, dtype=np.uint64))


def test_a_key_is_of_the_letters_and_digits_where_there_are_eight():
    assert text_key("Rose 5.5 %, again!") == first_eight_bytes("rose55again")
    assert text_key("a.b-c D e (f) g_h") == text_key("ABCDEFGH") == first_eight_bytes("abcdefgh")


def test_a_key_of_fewer_is_of_all_characters_in_one_form():
    assert text_key("a.b-c D e (f) g") == first_eight_bytes("a.b-c d e (f) g") != text_key("ABCDEFG")
    assert text_key("A  b\n\u00e9") == text_key("a b " + unicodedata.normalize("NFD", "\u00c9"))
    assert text_key("stra\u00dfe") == text_key("STRASSE"), "case is folded, not lowered"
    assert text_key("\ud800") == text_key("?"), "what UTF-8 cannot write counts as a question mark"
