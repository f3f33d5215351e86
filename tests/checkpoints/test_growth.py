"""A larger language model that starts with the weights of a smaller one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bilm.checkpoints.growth import grow
from bilm.checkpoints.model_format import Pretrained
from bilm.config import BiLMConfig
from bilm.modules.language_model import BiLM
from bilm.runtime.errors import UserError
from bilm.text.batching import collate


def pretrained(vocabulary, config):
    model = BiLM(config, len(vocabulary)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return Pretrained(model, vocabulary, {}, "")


@pytest.fixture
def batch(vocabulary, texts):
    return collate(vocabulary.encode(texts), np.arange(len(texts)))


@pytest.mark.parametrize("hidden", [None, 9], ids=["not projected before", "projected before"])
@pytest.mark.parametrize("token_layer", ["word", "word+char"])
def test_a_wider_model_computes_what_the_narrow_one_does(vocabulary, batch, hidden, token_layer):
    base = pretrained(vocabulary, BiLMConfig(token_layer, width=8, hidden=hidden, dropout=0.0))
    model = grow(base, len(vocabulary), replace(base.model.config, hidden=13))
    assert model.config.units == 13 and model.forward_lstm.lstms[0].hidden_size == 13
    for one, other in zip(model.encode(batch), base.model.encode(batch), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(model(batch), base.model(batch))


def test_training_reaches_the_new_units(vocabulary, batch):
    """From the second step on all weights of the new units have a gradient."""
    base = pretrained(vocabulary, BiLMConfig(width=8, dropout=0.0))
    model = grow(base, len(vocabulary), replace(base.model.config, hidden=13)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()
    for stack in (model.forward_lstm, model.backward_lstm):
        for lstm, projection in zip(stack.lstms, stack.projections, strict=True):
            assert projection.weight.grad[:, 8:].all()
            for weight in (lstm.weight_ih_l0, lstm.weight_hh_l0):
                assert weight.grad.unflatten(0, (4, 13))[:, 8:].any(2).all()


def test_new_units_differ(vocabulary):
    base = pretrained(vocabulary, BiLMConfig(width=8))
    new = grow(base, len(vocabulary), replace(base.model.config, hidden=16)).forward_lstm.lstms[0].weight_ih_l0
    rows = new.unflatten(0, (4, 16))[0].detach()
    assert len({tuple(row.tolist()) for row in rows}) == 16


def test_a_model_without_a_softmax_cannot_grow(vocabulary):
    base = pretrained(vocabulary, BiLMConfig(width=8, softmax="none"))
    with pytest.raises(UserError, match="without its softmax"):
        grow(base, len(vocabulary), replace(base.model.config, hidden=13))
