"""Every epoch has an order of its own, in which texts of one length meet other texts of that length."""

import numpy as np

from bilm.text.batching import epoch_batches, plan_batches
from bilm.text.vocabulary import EncodedTexts


def encoded(vocabulary, count: int) -> EncodedTexts:
    """Texts of 1 to 6 words."""
    return vocabulary.encode([" ".join(["moon"] * (1 + i % 6)) for i in range(count)])


def members(batches) -> set[frozenset[int]]:
    return {frozenset(batch.tolist()) for batch in batches}


def test_each_epoch_has_other_batches_in_another_order(vocabulary):
    texts, rows = encoded(vocabulary, 120), np.arange(10, 110)
    first, repeated, second = (epoch_batches(texts, rows, 60, seed=4, epoch=epoch) for epoch in (0, 0, 1))
    assert [b.tolist() for b in first] == [b.tolist() for b in repeated]
    assert members(first) != members(second)
    for batches in (first, second):
        assert sorted(np.concatenate(batches)) == list(range(10, 110))


def test_another_seed_is_another_order(vocabulary):
    texts, rows = encoded(vocabulary, 120), np.arange(120)
    one, other = (epoch_batches(texts, rows, 60, seed=seed, epoch=0) for seed in (1, 2))
    assert members(one) != members(other)


def test_texts_of_one_length_are_shuffled():
    """Their batches are full, and are not the ones that the order of the file would give."""
    lengths = np.full(40, 7)
    in_order = plan_batches(lengths, 70)
    assert [b.tolist() for b in in_order] == np.arange(40).reshape(4, 10).tolist()
    one, other = (plan_batches(lengths, 70, np.random.default_rng(seed)) for seed in (0, 1))
    assert {len(b) for b in one} == {10}
    assert len({*members(in_order), *members(one), *members(other)}) == 12


def test_the_order_of_batches_is_shuffled_and_not_only_their_members():
    lengths = np.repeat(np.arange(2, 42), 10)
    shuffled = plan_batches(lengths, 400, np.random.default_rng(0))
    longest = [int(lengths[batch].max()) for batch in shuffled]
    assert longest != sorted(longest) and longest != sorted(longest, reverse=True)


def test_only_neighbours_in_length_meet():
    """A text is moved among those that are less than two tokens longer or shorter."""
    lengths = np.random.default_rng(0).permutation(np.repeat([10, 12, 14, 16], 25))
    (batch,) = plan_batches(lengths, 1600, np.random.default_rng(0))
    assert lengths[batch].tolist() == sorted(lengths.tolist())
