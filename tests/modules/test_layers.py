import pytest
import torch

from bilm.modules.layers import Dropout


@pytest.mark.parametrize(("p", "exact"), [(0.2, 51 / 256), (0.3, 77 / 256), (0.5, 0.5), (0.99, 253 / 256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_and_the_scale(p, exact, dtype):
    """All values are dropped equally often, whatever their byte in the random int64; the others are scaled to match."""
    dropout, x = Dropout(p), torch.ones(4_001, 251, dtype=dtype)
    y = dropout(x)
    assert y.dtype == dtype and set(y.unique().tolist()) == {0.0, torch.tensor(1 / (1 - exact), dtype=dtype).item()}
    dropped = (y == 0).float()
    sigma = (exact * (1 - exact) / dropped.numel()) ** 0.5
    assert dropped.mean().item() == pytest.approx(exact, abs=4 * sigma)
    by_byte = dropped.flatten()[: 8 * (dropped.numel() // 8)].view(-1, 8).mean(0)
    assert (by_byte - exact).abs().max() < 4.5 * sigma * 8**0.5
    neighbours = (dropped[:, 1:] * dropped[:, :-1]).mean().item()
    assert neighbours == pytest.approx(exact**2, abs=6 * sigma)


def test_the_gradient_goes_where_the_value_went():
    x = torch.randn(5, 7, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, torch.where(y == 0, 0.0, 2.0))


def test_the_seed_decides_and_each_call_differs():
    dropout, x = Dropout(0.5), torch.ones(50)
    torch.manual_seed(3)
    one, two = dropout(x), dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), one) and not torch.equal(one, two)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_nothing_is_dropped_in_evaluation_or_at_zero(p):
    dropout, x = Dropout(p), torch.randn(9)
    assert torch.equal(dropout.eval()(x), x)
    assert p or torch.equal(dropout.train()(x), x)
