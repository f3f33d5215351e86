"""Shares of dropout that no byte can express, and tensors of a size that is no multiple of eight."""

import pytest
import torch

from bilm.modules.layers import Dropout


@pytest.mark.parametrize("p", [0.001, 0.999])
def test_shares_near_zero_and_one_are_kept_exactly(p):
    y = Dropout(p)(torch.ones(400_000))
    dropped = (y == 0).float().mean().item()
    assert dropped == pytest.approx(p, abs=5 * (p * (1 - p) / 400_000) ** 0.5)
    torch.testing.assert_close(y.max(), torch.tensor(1 / (1 - p)))


@pytest.mark.parametrize("p", [1 / 256, 255 / 256])
def test_the_first_and_the_last_share_that_a_byte_expresses(p):
    y = Dropout(p)(torch.ones(400_000))
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=5 * (p * (1 - p) / 400_000) ** 0.5)
    torch.testing.assert_close(y.max(), torch.tensor(1 / (1 - p)))


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
def test_any_number_of_values(count):
    assert Dropout(0.5)(torch.ones(count)).shape == (count,)


def test_everything_can_be_dropped():
    assert not Dropout(1.0)(torch.ones(50)).any()
