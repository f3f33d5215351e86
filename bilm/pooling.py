"""Many positions -> one vector."""

from typing import Any

import torch
from torch import Tensor


def masked_mean_max(x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, H), (B, T) -> (B, 2H): mean and maximum over the positions where `mask` holds."""
    mask = mask.unsqueeze(-1)
    mean = (x * mask).sum(1) / mask.sum(1)
    return torch.cat([mean, maximum(x.masked_fill(~mask, float("-inf")), 1)], dim=-1)


def maximum(x: Tensor, dim: int) -> Tensor:
    """x.amax(dim), gradient and all: positions that share the maximum share its gradient.

    PyTorch counts those in int64, which took a seventh of a classifier's training step on a CPU.
    """
    return _Maximum.apply(x, dim)


class _Maximum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        best = x.amax(dim)
        ctx.save_for_backward(x, best)
        ctx.dim = dim
        return best

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        x, best = ctx.saved_tensors
        shares = (x == best.unsqueeze(ctx.dim)).view(torch.uint8).to(x.dtype)
        share = upstream[0] / shares.sum(ctx.dim, dtype=torch.float32)
        return shares * share.to(x.dtype).unsqueeze(ctx.dim), None
