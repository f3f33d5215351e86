"""Cross-entropy of a linear layer over a large vocabulary, without ever holding all its scores.

N states times V words are gigabytes where N is what keeps a GPU busy. Here the scores of a stretch of states are turned
into their loss and their gradient and given up again; memory stays at `_AT_ONCE` scores, the arithmetic is the same.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows of a matrix product are padded to a multiple of this. oneDNN makes and keeps code for every shape it meets: that
# takes longer than the product, and grows to gigabytes. On a CPU this saves a tenth of a training step.
ROWS = 32
# Scores handled at once: 128 MB in fp32, up to three times that at the peak.
_AT_ONCE = 2**25


def linear_cross_entropy(states: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum over n of -log softmax(weight @ states[n] + bias)[targets[n]], fp32 ().

    states (N, D), weight (V, D), bias (V,), targets int64 (N,). Under autocast the products are in its type; the rest
    is in fp32, whatever the type of the states.
    """
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    return _LinearCrossEntropy.apply(states, weight, bias, targets, dtype, torch.is_grad_enabled())


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradients are known with the loss; backward() only scales them."""

    @staticmethod
    def forward(ctx: Any, states, weight, bias, targets, dtype, with_gradients) -> Tensor:
        count, padding = len(states), -len(states) % ROWS
        x, w, b = F.pad(states.to(dtype), (0, 0, 0, padding)), weight.to(dtype), bias.to(dtype)
        targets = F.pad(targets, (0, padding))
        loss = torch.zeros((), device=states.device)
        if with_gradients:
            grads = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        rows = max(ROWS, _AT_ONCE // len(weight) // ROWS * ROWS)
        for start in range(0, len(x), rows):
            here = slice(start, start + rows)
            asked = targets[here, None]
            log_probs = F.linear(x[here], w, b).float().log_softmax(-1)
            real = min(rows, count - start)
            loss -= log_probs.gather(1, asked)[:real].sum()
            if with_gradients:
                # d loss / d scores = probabilities - 1 at the target
                scores = log_probs.exp_().scatter_add_(1, asked, torch.full_like(asked, -1, dtype=torch.float32))
                scores[real:] = 0.0
                grads[2].add_(scores.sum(0))
                scores = scores.to(dtype)
                grads[0][here] = scores @ w
                grads[1].add_(scores.t() @ x[here])
        if with_gradients:
            ctx.save_for_backward(grads[0][:count].to(states.dtype), *grads[1:])
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *(gradient * upstream[0] for gradient in ctx.saved_tensors), None, None, None
