"""e0, e1, e2 -> one vector per token (Peters et al. 2018, equation 1).

Every combiner takes J layers of the same shape (B, T, E) and returns (B, T, E).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bilm.config import MODES


class ScalarMix(nn.Module):
    """gamma * sum_j lambda_j e_j with lambda = softmax(w), one weight per layer.

    trainable=True: w starts at 0 (equal lambdas) and gamma at 1, and both are trained.
    trainable=False: w is drawn once from N(0, 1) with `seed` and stays fixed, as does gamma = 1.
    """

    def __init__(self, num_layers: int, trainable: bool, seed: int = 0):
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        w = torch.zeros(num_layers) if trainable else torch.randn(num_layers, generator=random)
        self.w = nn.Parameter(w, requires_grad=trainable)
        self.gamma = nn.Parameter(torch.ones(()), requires_grad=trainable)

    def start_from(self, w: Sequence[float]) -> None:
        """Initialize the weights with `w`, the logarithms of the lambdas to begin with; -inf for a lambda of 0."""
        self.w.data.copy_(torch.tensor(w))

    def describe(self) -> dict[str, Any]:
        """lambdas = softmax(w), which are positive and sum to 1, and gamma."""
        return {"lambdas": self.w.detach().softmax(0).tolist(), "gamma": self.gamma.item()}

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """J layers, each (B, T, E) -> (B, T, E). Raises ValueError if J is not the number of weights."""
        if len(layers) != len(self.w):
            raise ValueError(f"{len(layers)} layers for {len(self.w)} weights")
        weights = self.gamma * self.w.softmax(0)
        mixed = weights[0] * layers[0]
        for weight, layer in zip(weights[1:], layers[1:], strict=True):
            mixed = mixed + weight * layer
        return mixed


class LearnedFunction(nn.Module):
    """f([e0; e1; ...]): a linear layer over the concatenated layers, and a ReLU.

    It can weight each of the J x E features separately, where ScalarMix has one weight per layer.
    """

    def __init__(self, num_layers: int, dim: int):
        super().__init__()
        self.num_layers = num_layers
        self.linear = nn.Linear(num_layers * dim, dim)

    def describe(self) -> dict[str, Any]:
        """layer_shares: each layer's share of the squared norm of the weights; there are no lambdas."""
        squared = self.linear.weight.detach().square().sum(0).view(self.num_layers, -1).sum(1)
        return {"layer_shares": (squared / squared.sum()).tolist()}

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        return self.linear(torch.cat(list(layers), dim=-1)).relu()


def build_combiner(mode: str, num_layers: int, dim: int, seed: int) -> ScalarMix | LearnedFunction:
    """Build the combiner of `mode`; finetune has the same one as trainable. Raises ValueError for another mode."""
    if mode == "function":
        return LearnedFunction(num_layers, dim)
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}")
    return ScalarMix(num_layers, trainable=mode != "frozen", seed=seed)
