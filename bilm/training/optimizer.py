"""AdamW, and the learning rate over a run."""

import math
from collections.abc import Sequence

import torch
from torch import nn


def schedule(done: float, warmup: float) -> float:
    """Factor on the learning rate after the fraction `done` of the run: a linear rise, then a cosine down to 0."""
    if done < warmup:
        return done / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (done - warmup) / (1.0 - warmup)))


def build_optimizer(groups: Sequence[tuple[nn.Module, float]], weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the trainable parameters of each (module, learning rate); only matrices decay.

    Where a later module is a part of an earlier one, its parameters get the later module's rate.
    """
    parameters = []
    group_of = {p: i for i, (module, _) in enumerate(groups) for p in module.parameters()}
    for i, (_, learning_rate) in enumerate(groups):
        trainable = [p for p, group in group_of.items() if group == i and p.requires_grad]
        matrices, others = [p for p in trainable if p.dim() > 1], [p for p in trainable if p.dim() <= 1]
        for decay, members in ((weight_decay, matrices), (0.0, others)):
            if members:
                parameters.append(
                    {"params": members, "lr": learning_rate, "peak": learning_rate, "weight_decay": decay}
                )
    return torch.optim.AdamW(parameters, fused=True)
