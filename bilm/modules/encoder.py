"""Encoder: what a classifier requires of the model whose layers it combines, such as the language model."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from bilm.text.batching import Batch


class Encoder(nn.Module, ABC):
    """A module that turns a batch of B texts into J layers of vectors, each (B, T, E).

    T: tokens in the longest text, with <s> and </s>.

    num_layers = J and output_dim = E; layer 0 depends on the token alone.
    """

    num_layers: int
    output_dim: int

    @property
    def encodes_static_shapes(self) -> bool:
        """Whether `encode` takes batches of static shape; see Batch."""
        return False

    @abstractmethod
    def encode(self, batch: Batch) -> list[Tensor]:
        """e0, e1, ..., each (B, T, E); the vectors at padding are arbitrary."""

    @abstractmethod
    def embed(self, batch: Batch, dtype: torch.dtype) -> Tensor:
        """Compute e0 alone, (B, T, E), as `dtype`."""

    def set_trainable(self, trainable: bool) -> None:
        """Make the weights that `encode` uses trainable, or fix them."""
        self.requires_grad_(trainable)

    def learning_rates(self, rate: float) -> list[tuple[nn.Module, float]]:
        """Pairs of a module and its learning rate for `build_optimizer`; `rate`: of modules without their own."""
        return [(self, rate)]
