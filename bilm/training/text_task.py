"""TextTask: the part of a training task that pretraining and classification share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bilm.text.batching import Batch, collate, epoch_batches
from bilm.text.vocabulary import EncodedTexts


@dataclass
class TextTask(ABC):
    """Batches of the `training_rows` of `texts`, each divided among the ranks; see loop.Task."""

    texts: EncodedTexts
    training_rows: np.ndarray
    validation_rows: np.ndarray
    batch_tokens: int
    seed: int
    device: torch.device

    def plan(self, epoch: int) -> Sequence[np.ndarray]:
        return epoch_batches(self.texts, self.training_rows, self.batch_tokens, self.seed, epoch)

    def loss(self, model: nn.Module, item: np.ndarray, rank: int, world_size: int) -> tuple[Tensor, int, int]:
        share = item[rank::world_size]
        # A rank without texts computes a loss that is not counted: DistributedDataParallel waits for all ranks.
        loss, count, units = self.batch_loss(model, collate(self.texts, share if len(share) else item[:1]))
        return (loss, count, units) if len(share) else (loss * 0.0, 0, 0)

    @abstractmethod
    def batch_loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int, int]:
        """Sum of the losses over the targets of `batch`, number of targets, number of units."""
