import numpy as np
import torch

from bilm.text.batching import collate, epoch_batches, iterate_batches, mask_of, plan_batches, reverse_within_length


def test_every_text_is_planned_once_and_within_the_budget():
    lengths = np.random.default_rng(0).integers(2, 60, 500)
    for generator in (None, np.random.default_rng(1)):
        plan = plan_batches(lengths, 256, generator)
        assert sorted(np.concatenate(plan)) == list(range(500))
        assert all(lengths[rows].max() * len(rows) <= 256 for rows in plan)
        # Texts of similar length need little padding: less than 5 % of the tokens.
        assert sum(lengths[rows].max() * len(rows) for rows in plan) < 1.05 * lengths.sum()


def test_a_text_longer_than_the_budget_is_a_batch_by_itself():
    plan = plan_batches(np.array([5, 300, 5]), 100)
    assert [rows.tolist() for rows in plan] == [[0, 2], [1]]
    assert plan_batches(np.zeros(0, dtype=np.int64), 100) == []


def test_plans_depend_on_the_generator_alone():
    lengths = np.random.default_rng(0).integers(2, 60, 200)
    first, repeated, other = (plan_batches(lengths, 256, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, repeated, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=False))


def test_epochs_are_shuffled_and_reproducible(vocabulary, texts):
    encoded = vocabulary.encode(texts * 20)
    rows = np.arange(10, 90)

    def batches(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in epoch_batches(encoded, rows, 40, seed, epoch)]

    assert sorted(row for batch in batches(0, 0) for row in batch) == rows.tolist()
    assert batches(0, 1) == batches(0, 1)
    assert batches(0, 0) != batches(0, 1) != batches(1, 1)


def test_shuffling_mixes_texts_of_the_same_and_of_adjacent_lengths():
    """And the order of the batches, but not texts whose lengths differ by two or more."""
    lengths = np.repeat([10, 11, 20], 30)
    plan = plan_batches(lengths, 1_000_000, np.random.default_rng(0))
    order = plan[0].tolist()
    assert order != sorted(order) and order[:30] != list(range(30)) and set(order[60:]) == set(range(60, 90))
    assert 0 < sum(row >= 30 for row in order[:30]) < 15, "some texts of length 11 come before some of length 10"
    for generator in (None, np.random.default_rng(0)):
        longest = [lengths[rows].max() for rows in plan_batches(lengths, 60, generator)]
        assert (longest == sorted(longest)) == (generator is None)


def test_a_batch_may_have_exactly_the_budget():
    assert [rows.tolist() for rows in plan_batches(np.array([5, 5, 5, 5, 6]), 10)] == [[0, 1], [2, 3], [4]]
    assert [rows.tolist() for rows in plan_batches(np.array([2, 2, 3, 3]), 6)] == [[0, 1], [2, 3]]


def test_collate_pads_at_the_end(vocabulary, texts):
    encoded = vocabulary.encode(texts)
    batch = collate(encoded, np.array([3, 0, 2]))
    assert batch.ids.shape == (3, 15) and batch.lengths.tolist() == [15, 8, 4]
    for row, ids, length in zip(batch.rows, batch.ids, batch.lengths.tolist(), strict=True):
        assert ids[:length].tolist() == encoded.ids[encoded.offsets[row] : encoded.offsets[row + 1]].tolist()
        assert not ids[length:].any()


def test_evaluation_batches_have_each_row_once(vocabulary, texts):
    encoded = vocabulary.encode(texts)
    batches = list(iterate_batches(encoded, np.array([4, 1, 2]), 20))
    rows = np.concatenate([batch.rows for batch in batches])
    assert len(batches) > 1 and sorted(rows) == [1, 2, 4]
    assert (np.diff(encoded.lengths[rows]) >= 0).all(), "shortest first"


def test_reversal_stays_within_the_length():
    x = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])
    lengths = torch.tensor([3, 5])
    assert reverse_within_length(x, lengths).tolist() == [[3, 2, 1, 0, 0], [8, 7, 6, 5, 4]]
    y = torch.randn(2, 5, 3)
    reversed_y = reverse_within_length(y, lengths)
    assert torch.equal(reversed_y[0, 0], y[0, 2]) and torch.equal(reversed_y[0, 4], y[0, 4])
    assert torch.equal(reverse_within_length(reversed_y, lengths), y)


def test_mask():
    assert mask_of(torch.tensor([1, 3]), 4).tolist() == [[True, False, False, False], [True, True, True, False]]
