"""Growth: a larger language model that starts with what a smaller one has learned.

The larger one computes the same layers for the words of the smaller one. Its new LSTM units have random incoming
weights; their outgoing weights, to the other units and to the projection, are 0 until training changes them. (Net2Net,
Chen et al. 2016, copies units instead; docs/log.md compares both.)
"""

from dataclasses import replace

import torch
from torch import nn

from bilm.checkpoints.model_format import Pretrained
from bilm.config import BiLMConfig
from bilm.modules.language_model import BiLM
from bilm.modules.lstm import LSTMStack
from bilm.modules.softmax import AdaptiveSoftmax
from bilm.runtime.errors import UserError

# nn.LSTM keeps the weights of its gates one below the other.
GATES = 4


@torch.no_grad()
def grow(pretrained: Pretrained, vocabulary_size: int, config: BiLMConfig) -> BiLM:
    """Return a language model with the weights of `pretrained`, more words, and more LSTM units.

    config: that of `pretrained`, but for its dropout and a larger `hidden`. Rows of new words are initialised at
    random. Raises UserError when `pretrained` has no softmax.
    """
    base = pretrained.model
    if base.softmax is None:
        raise UserError(
            "this language model was imported without its softmax; it cannot be trained further.", "start_from"
        )
    cutoffs = base.softmax.edges[:-1] if isinstance(base.softmax, AdaptiveSoftmax) else base.config.cutoffs
    model = BiLM(replace(config, cutoffs=cutoffs), vocabulary_size)
    is_wider = model.config.units != base.config.units
    weights = base.state_dict()
    for name, weight in model.state_dict().items():
        if not (is_wider and "_lstm." in name):
            (weight[: len(weights[name])] if weight.dim() else weight).copy_(weights[name])
    if is_wider:
        _widen(model.forward_lstm, base.forward_lstm)
        _widen(model.backward_lstm, base.backward_lstm)
    return model


def grown_hidden(base: BiLMConfig, hidden: int | None) -> int | None:
    """The `hidden` of a model that starts from `base`, if the user asks for `hidden`; None: what `base` has.

    Raises UserError for fewer units than `base` has, and where the projections of `base` would be lost.
    """
    units = hidden or base.units
    if units < base.units:
        raise UserError(f"the LSTMs of the model to start from have {base.units} units; {units} are fewer.", "hidden")
    if units == base.width != base.units:
        raise UserError(
            f"LSTMs as wide as the layers ({units}) are not projected, and those of the model to start from are. "
            "Choose another number.",
            "hidden",
        )
    return units if units != base.width else None


def _widen(stack: nn.Module, base: nn.Module) -> None:
    assert isinstance(stack, LSTMStack) and isinstance(base, LSTMStack)
    for lstm, old in zip(stack.lstms, base.lstms, strict=True):
        weights = old.state_dict()
        for name, weight in lstm.state_dict().items():
            units = weights["weight_hh_l0"].shape[1]
            gates, old_gates = weight.unflatten(0, (GATES, -1)), weights[name].unflatten(0, (GATES, -1))
            if name.startswith("weight_hh"):
                gates[:, :units] = 0
                gates[:, :units, :units] = old_gates
            else:
                gates[:, :units] = old_gates
    for projection, old in zip(stack.projections, base.projections, strict=True):
        _widen_projection(projection, old)


def _widen_projection(projection: nn.Module, old: nn.Module) -> None:
    """A base whose LSTMs are as wide as its layers has no projection, which the identity stands for."""
    assert isinstance(projection, nn.Linear)
    weight, bias = (
        (old.weight, old.bias)
        if isinstance(old, nn.Linear)
        else (torch.eye(projection.out_features), torch.zeros(projection.out_features))
    )
    projection.weight.zero_()
    projection.weight[:, : weight.shape[1]] = weight
    projection.bias.copy_(bias)
