"""Adversarial training (Miyato et al. 2017): a loss of texts whose token vectors are moved to where it grows most."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bilm.text.batching import mask_of


def adversarial_loss(
    loss_at: Callable[[Tensor], Tensor], x: Tensor, lengths: Tensor, parameters: Sequence[Tensor], strength: float
) -> Tensor:
    """Mean of loss_at(x) and loss_at(x + r), (); r, see `perturbation`, is a constant of the gradient.

    loss_at: the loss, (), as a function of token vectors and of `parameters`, which require a gradient; it may draw
    other dropout masks in each call. x: the token vectors, (B, T, D), with their graph. lengths: int64 (B,).
    """
    here = x.detach().requires_grad_()
    loss = loss_at(here)
    # Of the parameters, too, so that there is no second pass through this graph. Under autocast, the products of a
    # backward pass would be rounded.
    with torch.autocast(x.device.type, enabled=False):
        gradients = torch.autograd.grad(loss, [here, *parameters], allow_unused=True)
    loss = _Differentiated.apply(loss.detach(), gradients, x, *parameters)
    return (loss + loss_at(x + perturbation(gradients[0], x.detach(), lengths, strength))) / 2


def perturbation(gradient: Tensor, x: Tensor, lengths: Tensor, strength: float) -> Tensor:
    """Compute r = strength * ||x|| * gradient / ||gradient|| for each text; all (B, T, D).

    Of all perturbations of this length, to first order it increases the loss most. The norms are over all tokens of a
    text; padding, which has no effect on a loss, has a gradient of 0.
    """
    tokens = x * mask_of(lengths, x.shape[1]).unsqueeze(-1).to(x.device)
    length = strength * tokens.flatten(1).norm(dim=1, keepdim=True)
    return (length * F.normalize(gradient.flatten(1))).view_as(x)


class _Differentiated(torch.autograd.Function):
    """A loss, (), whose gradients at `inputs` are known; None for inputs that it does not depend on."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: Sequence[Tensor | None], *inputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(None if g is None else upstream[0] * g for g in ctx.gradients)
