"""TextTask: the part of a training task that pretraining and classification share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from bilm.text.batching import GPU_BATCH_TOKENS, Batch, collate, epoch_batches, iterate_batches
from bilm.text.vocabulary import EncodedTexts
from bilm.training.cuda_graphs import GraphedModel


@dataclass
class TextTask(ABC):
    """Batches of the `training_rows` of `texts`, each divided among the ranks; see loop.Task."""

    texts: EncodedTexts
    training_rows: np.ndarray
    validation_rows: np.ndarray
    batch_tokens: int
    seed: int
    device: torch.device
    _graphed: GraphedModel | None = field(default=None, init=False)

    def plan(self, epoch: int) -> Sequence[np.ndarray]:
        return epoch_batches(self.texts, self.training_rows, self.batch_tokens, self.seed, epoch)

    def loss(self, model: nn.Module, item: np.ndarray, rank: int, world_size: int) -> tuple[Tensor, int, int]:
        share = item[rank::world_size]
        if self.device.type == "cuda" and world_size == 1:
            if self._graphed is None or self._graphed.model is not model:
                self._graphed = GraphedModel(model, self.batch_tokens)
            model = self._graphed
        # A rank without texts computes a loss that is not counted: DistributedDataParallel waits for all ranks.
        loss, count, units = self.batch_loss(model, collate(self.texts, share if len(share) else item[:1]))
        return (loss, count, units) if len(share) else (loss * 0.0, 0, 0)

    def validation_batches(self) -> Iterator[Batch]:
        """The validation rows, once each."""
        on_cpu = self.device.type == "cpu"
        batch_tokens = self.batch_tokens if on_cpu else max(self.batch_tokens, GPU_BATCH_TOKENS)
        return iterate_batches(self.texts, self.validation_rows, batch_tokens)

    @abstractmethod
    def batch_loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int, int]:
        """Sum of the losses over the targets of `batch`, number of targets, number of units."""
