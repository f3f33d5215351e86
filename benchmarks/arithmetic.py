"""How many floating-point operations the model's matrices ask for, from their shapes.

A matrix of n weights takes 2n operations for a row of states: a multiplication and an addition each. The backward pass
takes twice that, for the gradient of the states and of the weights. Everything else (gates, softmax, dropout, the
optimizer) is left out, and so is what is spent on padding: these are the operations that could not be saved.
"""

import numpy as np
from torch import nn

from bilm.modules.language_model import DIRECTIONS, BiLM
from bilm.modules.softmax import AdaptiveSoftmax, FullSoftmax

TRAINING = 3  # forward, and backward twice that


def per_row(module: nn.Module) -> int:
    """Operations of the forward pass of all matrices of `module`, for a row each."""
    return 2 * sum(p.numel() for p in module.parameters() if p.dim() > 1)


def lstm_per_token(model: BiLM) -> int:
    """Forward pass of a token through both stacks."""
    return per_row(model.forward_lstm) + per_row(model.backward_lstm)


def softmax_per_target(softmax: AdaptiveSoftmax | FullSoftmax, targets: np.ndarray) -> float:
    """Forward pass of a target in one direction, on average over `targets` (N,): rare words take a cluster more."""
    if isinstance(softmax, FullSoftmax):
        return per_row(softmax)
    clusters = zip(softmax.tails, softmax.edges[:-1], softmax.edges[1:], strict=True)
    inside = [per_row(tail) * float(((targets >= low) & (targets < high)).mean()) for tail, low, high in clusters]
    return per_row(softmax.head) + sum(inside)


def training_per_token(model: BiLM, targets: np.ndarray) -> dict[str, float]:
    """A training step's operations per token, that is per target in each direction: {"lstm", "softmax"}.

    `targets`: those of one direction; the other's differ in the boundaries alone, which are frequent both.
    """
    assert model.softmax is not None
    softmax = len(DIRECTIONS) * softmax_per_target(model.softmax, targets)
    return {"lstm": TRAINING * lstm_per_token(model), "softmax": TRAINING * softmax}
