"""LSTMs with more units than their layer is wide."""

import pytest
import torch
from torch import nn

from bilm.config import BiLMConfig, bilm_config, saved_config
from bilm.modules.lstm import LSTMStack

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
