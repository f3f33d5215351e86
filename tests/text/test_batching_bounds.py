"""Batches at the edge of their budget, of texts without a word, and turned around."""

import numpy as np
import pytest
import torch

from bilm.text import batching
from bilm.text.batching import Batch, collate, iterate_batches, mask_of, plan_batches, reverse_within_length
from bilm.text.vocabulary import EncodedTexts


def sizes(lengths: list[int], budget: int) -> list[list[int]]:
    """The lengths in each batch."""
    return [np.array(lengths)[rows].tolist() for rows in plan_batches(np.array(lengths), budget)]


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [
        ([4, 4, 4, 4], 8, [[4, 4], [4, 4]]),
        ([4, 4, 4, 4], 11, [[4, 4], [4, 4]]),
        ([4, 4, 4, 4], 12, [[4, 4, 4], [4]]),
        ([2, 2, 5], 14, [[2, 2], [5]]),
        ([2, 2, 5], 15, [[2, 2, 5]]),
        ([9, 3, 10], 8, [[3], [9], [10]]),
        ([7], 100, [[7]]),
        ([3, 1, 2], 100, [[1, 2, 3]]),
    ],
)
def test_a_batch_is_as_full_as_its_padded_size_allows(lengths, budget, expected):
    assert sizes(lengths, budget) == expected


def test_without_a_generator_texts_of_one_length_stay_in_order():
    assert [rows.tolist() for rows in plan_batches(np.array([5, 3, 5, 3, 5]), 100)] == [[1, 3, 0, 2, 4]]


def test_collate_takes_the_lexicon_along_and_numbers_its_rows(vocabulary, texts):
    encoded = vocabulary.encode(texts)
    batch = collate(encoded, np.array([4, 2]))
    assert batch.lexicon is encoded.lexicon and batch.rows.tolist() == [4, 2]
    assert batch.ids.dtype == batch.lengths.dtype == torch.int64
    moved = batch.to(torch.device("cpu"))
    assert torch.equal(moved.ids, batch.ids) and moved.rows is batch.rows and moved.lexicon is batch.lexicon


def test_a_batch_of_no_text_is_empty():
    batch = collate(EncodedTexts(np.zeros(0, np.int32), np.zeros(1, np.int64)), np.zeros(0, np.int64))
    assert batch.ids.shape == (0, 0) and batch.lengths.shape == (0,)
    assert Batch(torch.zeros(1, 2), torch.tensor([2])).rows.shape == (0,)


def test_evaluation_is_by_length_and_tells_the_threads_of_every_step(vocabulary, texts, monkeypatch):
    steps = []
    monkeypatch.setattr(batching.threads, "after_step", lambda: steps.append(len(steps)))
    batches = list(iterate_batches(vocabulary.encode(texts), np.arange(5), 20))
    assert len(steps) == len(batches) > 2
    longest = [int(batch.lengths.max()) for batch in batches]
    assert longest == sorted(longest)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3), (4, 6, 2, 2)])
def test_each_row_is_turned_within_its_length_and_padding_stays(shape):
    x = torch.arange(4 * 6 * int(np.prod(shape[2:]))).view(shape)
    lengths = [6, 1, 0, 4]
    result = reverse_within_length(x, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        expected = [*reversed(x[row, :length].tolist()), *x[row, length:].tolist()]
        assert result[row].tolist() == expected


def test_a_mask_of_lengths_of_zero_and_beyond_its_width():
    assert mask_of(torch.tensor([0, 2, 5]), 3).tolist() == [[False] * 3, [True, True, False], [True] * 3]
