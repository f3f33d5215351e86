"""Validation rows: stratified, fixed by the texts alone, copies on one side."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLE

from bilm.runtime.errors import UserError
from bilm.text.ag_news import read_ag_news
from bilm.text.custom_dataset import NO_LABEL
from bilm.text.split import split_validation, text_key


def numbered(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and keys of `count` distinct texts."""
    return np.arange(count) % 4, keys(f"text number {i}" for i in range(count))


def keys(texts) -> np.ndarray:
    return np.array([text_key(text) for text in texts], dtype=np.uint64)


def test_validation_is_stratified_and_disjoint_from_training():
    labels, text_keys = numbered(2000)
    train, validation = split_validation(labels, text_keys)
    assert sorted([*train, *validation]) == list(range(2000))
    assert np.bincount(labels[validation]).tolist() == [25] * 4
    assert np.bincount(labels[split_validation(*numbered(60))[1]]).tolist() == [3] * 4


@pytest.mark.parametrize(("rows", "validation"), [(2, 1), (7, 1), (8, 2), (15, 3), (40, 10), (160, 10), (1000, 50)])
def test_the_share_of_validation_rows_in_a_class(rows, validation):
    """5 %, at least 10, at most a quarter, and at least one."""
    assert len(split_validation(np.zeros(rows, np.int64), numbered(rows)[1])[1]) == validation


def test_rows_without_a_label_are_for_training_unless_all_are():
    text_keys = numbered(80)[1]
    labels = np.repeat([0, NO_LABEL], 40)
    train, validation = split_validation(labels, text_keys)
    assert len(validation) == 10 and set(validation) < set(range(40)) and len(train) == 70
    assert len(split_validation(np.full(80, NO_LABEL), text_keys)[1]) == 10
    with pytest.raises(UserError, match=r"^there is a single distinct text among the 1 training rows"):
        split_validation(np.array([NO_LABEL]), text_keys[:1])


def test_validation_does_not_depend_on_the_order_of_rows():
    labels, text_keys = numbered(200)
    reversed_rows = split_validation(labels[::-1], text_keys[::-1])[1]
    assert set(split_validation(labels, text_keys)[1]) == set(199 - reversed_rows)


def test_the_validation_rows_are_fixed():
    """The same in every version, so that results of different versions can be compared."""
    assert text_key("Stocks fell.") == text_key("stocks-FELL") == 4635110909192999860
    assert split_validation(*numbered(60))[1].tolist() == [4, 9, 11, 15, 30, 32, 34, 45, 50, 52, 55, 57]


def test_keys_of_texts_with_few_letters_use_all_characters():
    for one, other in (("C", "C++"), ("!!!", "???"), ("😀", "😡"), ("I like C", "I like C#"), ("नी", "नि")):
        assert text_key(one) != text_key(other)
    for one, other in (
        ("C++  is", " c++\u3000IS\n"),
        ("I like C++ best", "i like C best!"),
        ("caf\u00e9 noir et au lait", "CAFE\u0301 noir, et au lait"),
        ("\U0001f600 e\u0301", "\U0001f600  \u00c9"),
    ):
        assert text_key(one) == text_key(other)
    assert text_key("abcdefg!") != text_key("abcdefg") and text_key("abcdefgh!") == text_key("abcdefgh")
    assert text_key("हिन्दी समाचार पत्र") != text_key("हन्द समचर पत्र"), "vowel signs count"


def letter_key(text: str) -> int:
    """The key of earlier versions, a hash of letters and digits for every text."""
    letters = re.sub(r"[\W_]+", "", text).lower()
    return int.from_bytes(hashlib.sha256(letters.encode()).digest()[:8], "big")


@pytest.mark.parametrize("split", ["train", "test"])
def test_keys_of_the_sample_are_those_of_earlier_versions(split):
    assert all(text_key(text) == letter_key(text) for _, text in read_ag_news(SAMPLE / f"{split}.csv"))


@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get("AG_NEWS_DIR"), reason="AG_NEWS_DIR is not set")
@pytest.mark.parametrize("split", [pytest.param("train", marks=pytest.mark.slow), "test"])
def test_keys_of_ag_news_are_those_of_earlier_versions(split):
    """The validation rows, which depend only on the keys, are then the same, too."""
    path = Path(os.environ["AG_NEWS_DIR"]) / f"{split}.csv"
    assert all(text_key(text) == letter_key(text) for _, text in read_ag_news(path))


def test_copies_of_a_validation_text_are_not_trained_on():
    labels, text_keys = numbered(200)
    _, validation = split_validation(labels, text_keys)
    texts = [f"text number {i}" for i in range(200)]
    copies = [texts[i].upper() + "!" for i in validation]
    # Also with another label.
    train, both = split_validation(np.r_[labels, (labels[validation] + 1) % 4], keys(texts + copies))
    assert both.tolist() == [*validation, *range(200, 200 + len(copies))]
    assert set(train) == set(range(200)) - set(validation)


def test_a_class_of_one_text_cannot_be_split():
    with pytest.raises(UserError, match="class 'Sports' has a single distinct text"):
        split_validation(np.array([0, 0, 1, 1]), keys(["a", "b", "the same text", "The same text!"]))


@pytest.mark.parametrize(
    ("labels", "texts", "message"),
    [
        (
            [0, 1, 0, 0],
            ["text", "label", "one", "two"],
            "class 'Sports' has a single distinct text among .*name the columns",
        ),
        ([0, 0, 1, 1], ["a", "b", "b", "c"], "class 'Sports' has a single .*counts for the one of its first row"),
        ([0, 0, 1, 1, 1], ["a", "b", "a", "b", "a"], "class 'Sports' has not a single distinct text of its own among"),
        ([1, 0, 0], ["b", "a", "b"], "class 'World' has a single distinct text .*Add texts or remove the class"),
        ([NO_LABEL] * 2, ["a", "a"], "there is a single distinct text among the 2 training rows; .* Add texts[.]$"),
    ],
)
def test_a_class_without_two_texts_of_its_own_is_told(labels, texts, message):
    with pytest.raises(UserError, match=message):
        split_validation(np.array(labels), keys(texts))
