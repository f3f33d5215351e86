"""Rows to choose by: one split where it has a thousand rows, otherwise five folds."""

import numpy as np
import pytest

from bilm.text.split import FOLDS, MANY_ROWS, VALIDATION_SHARE, split_validation, validation_splits


def test_few_rows_are_all_validated_on_once_and_equal_texts_stay_together():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    keys = np.arange(100, dtype=np.uint64)
    keys[1::6] = keys[::6][: len(keys[1::6])]  # texts that occur twice
    splits = validation_splits(labels, keys, np.arange(5, 100), np.arange(5))
    assert len(splits) == FOLDS
    assert sorted(np.concatenate([left for _, left in splits]).tolist()) == list(range(100))
    for training, left in splits:
        assert not set(training) & set(left) and len(training) + len(left) == 100
        assert not set(keys[training]) & set(keys[left])
        assert set(labels[left]) == {0, 1, 2}, "the folds are stratified"
    again = validation_splits(labels, keys, np.arange(5, 100), np.arange(5))
    assert all(np.array_equal(one[1], other[1]) for one, other in zip(splits, again, strict=True))


def test_rows_without_a_place_in_the_split_stay_out():
    labels, keys = np.array([0, 1] * 10), np.arange(20, dtype=np.uint64)
    rows = np.concatenate([left for _, left in validation_splits(labels, keys, np.arange(2, 12), np.arange(2))])
    assert sorted(rows.tolist()) == list(range(12))


@pytest.mark.parametrize("smallest", [2, 3, 4])
def test_classes_of_few_rows_give_fewer_folds(smallest):
    labels = np.repeat([0, 1], smallest)
    splits = validation_splits(
        labels, np.arange(2 * smallest, dtype=np.uint64), np.arange(smallest), np.arange(smallest, 2 * smallest)
    )
    assert len(splits) == smallest


@pytest.mark.parametrize("validated", [0.04, 0.06])
def test_many_rows_are_one_split(validated):
    """Decided by all rows: how many are validated on depends on repeated texts and on small classes, too."""
    number = round(MANY_ROWS / VALIDATION_SHARE)
    validation, training = np.split(np.arange(number), [round(validated * number)])
    labels = np.arange(number) % 2
    (split,) = validation_splits(labels, labels.astype(np.uint64), training, validation)
    assert split[0] is training and split[1] is validation


def test_many_small_classes_are_validated_on_in_folds():
    """A quarter of each class would be more than MANY_ROWS, and would not be trained on."""
    labels, keys = np.repeat(np.arange(200), 40), np.arange(8000, dtype=np.uint64)
    training, validation = split_validation(labels, keys, [str(i) for i in range(200)])
    assert len(validation) >= MANY_ROWS and len(validation_splits(labels, keys, training, validation)) == FOLDS


def test_few_distinct_texts_give_fewer_folds_and_small_classes_no_warning(recwarn):
    """Four texts, each of them several times; and a class of two rows beside one of many."""
    labels, keys = np.repeat([0, 1], 10), np.repeat(np.arange(4, dtype=np.uint64), 5)
    assert len(validation_splits(labels, keys, np.arange(10, 20), np.arange(10))) == 4
    labels, keys = np.repeat([0, 1], [20, 2]), np.arange(22, dtype=np.uint64)
    assert len(validation_splits(labels, keys, np.arange(10, 22), np.arange(10))) == FOLDS
    assert not recwarn.list
