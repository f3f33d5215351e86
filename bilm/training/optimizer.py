"""AdamW, and the learning rate over a run."""

import math
from collections.abc import Sequence

import torch
from torch import nn


def schedule(done: float, warmup: float) -> float:
    """Factor on the learning rate when the share `done` of the run is behind: linear rise, then a cosine to 0."""
    if done < warmup:
        return done / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (done - warmup) / (1.0 - warmup)))


def build_optimizer(groups: Sequence[tuple[nn.Module, float]], weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the trainable parameters of each (module, learning rate); only matrices decay.

    A part of a module that stands behind it as a module of its own has the rate that stands there.
    """
    parameters = []
    group_of = {p: i for i, (module, _) in enumerate(groups) for p in module.parameters()}
    for i, (_, learning_rate) in enumerate(groups):
        trainable = [p for p, group in group_of.items() if group == i and p.requires_grad]
        for decay, members in (
            (weight_decay, [p for p in trainable if p.dim() > 1]),
            (0.0, [p for p in trainable if p.dim() <= 1]),
        ):
            if members:
                parameters.append(
                    {"params": members, "lr": learning_rate, "peak": learning_rate, "weight_decay": decay}
                )
    return torch.optim.AdamW(parameters, fused=True)
