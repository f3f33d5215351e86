"""LSTMs with more units than their layer is wide."""

import pytest
import torch
from torch import nn

from bilm.config import BiLMConfig, bilm_config, saved_config
from bilm.modules.lstm import LSTMStack, _run_converted

CONFIG = BiLMConfig(width=6, hidden=10, dropout=0.0)


def test_an_lstm_wider_than_its_layer_is_followed_by_a_projection():
    """Against nn.LSTM and nn.Linear, in fp64; the second layer has a residual connection."""
    stack = LSTMStack(CONFIG).double()
    x = torch.randn(2, 7, 6, dtype=torch.float64)
    first, second = stack(x, torch.tensor([7, 5]))
    one, other = stack.lstms
    assert one.hidden_size == 10 and isinstance(stack.projections[0], nn.Linear)
    expected = stack.projections[0](one(x)[0])
    torch.testing.assert_close(first, expected)
    torch.testing.assert_close(second, stack.projections[1](other(expected)[0]) + expected)
    assert first.shape == x.shape


@pytest.mark.parametrize("hidden", [None, 6])
def test_an_lstm_as_wide_as_its_layer_is_not_projected(hidden):
    assert not any("projections" in name for name in LSTMStack(BiLMConfig(width=6, hidden=hidden)).state_dict())


def test_the_saved_shape_is_that_of_format_3_where_it_can_be():
    """So that the hash of an imported original stays the same."""
    assert "hidden" not in saved_config(BiLMConfig())
    for config in (CONFIG, BiLMConfig()):
        assert bilm_config(saved_config(config)) == config


def test_weights_converted_to_another_type():
    """As on a GPU that trains in bf16; gradients reach the weights themselves, in their own type."""
    lstm, x = nn.LSTM(6, 10, batch_first=True), torch.randn(2, 7, 6)
    result = _run_converted(lstm, x, torch.float64)
    assert result.dtype == torch.float64
    expected, _ = lstm(x)
    torch.testing.assert_close(result.float(), expected)
    result.square().sum().backward()
    found = [p.grad for p in lstm.parameters()]
    lstm.zero_grad()
    expected.square().sum().backward()
    torch.testing.assert_close(found, [p.grad for p in lstm.parameters()])
