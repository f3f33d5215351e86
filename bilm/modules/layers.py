"""Layers that the models share: dropout and pooling, both faster on a CPU than those of PyTorch."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BYTE = 256


class Dropout(nn.Module):
    """nn.Dropout; on a CPU `p` is rounded to a multiple of 1/256 (0.2 to 0.199, 0.3 to 0.301), and so is the scale."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        dropped = round(self.p * _BYTE)
        if not self.training or not 0 < dropped < _BYTE or x.device.type != "cpu":
            return F.dropout(x, self.p, self.training)
        random = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        # Compared in place as floats, which hold 0 to 255 exactly: converting bools to floats is slow.
        mask = random.view(torch.uint8)[: x.numel()].view(x.shape).to(x.dtype).ge_(dropped)
        return x * mask.mul_(_BYTE / (_BYTE - dropped))


def masked_mean_max(x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, H), bool (B, T) -> (B, 2H): mean and maximum over the positions where `mask` is True."""
    mask = mask.unsqueeze(-1)
    mean = (x * mask).sum(1) / mask.sum(1)
    return torch.cat([mean, maximum(x.masked_fill(~mask, float("-inf")), 1)], dim=-1)


def maximum(x: Tensor, dim: int) -> Tensor:
    """Like x.amax(dim), with the same gradient (divided among equal maxima), but faster on a CPU.

    PyTorch counts those positions in int64, which took a seventh of a classifier's training step on a CPU.
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
        is_maximum = (x == best.unsqueeze(ctx.dim)).view(torch.uint8).to(x.dtype)
        share = upstream[0] / is_maximum.sum(ctx.dim, dtype=torch.float32)
        return is_maximum * share.to(x.dtype).unsqueeze(ctx.dim), None
