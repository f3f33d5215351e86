"""Training a classifier: the task that fit() is given, and predictions."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bilm.text.batching import Batch, collate, epoch_batches, iterate_batches
from bilm.text.vocabulary import EncodedTexts
from bilm.training.layer_cache import LayerCache


def predict(
    model: nn.Module, batches: Iterable[Batch], num_texts: int, device: torch.device, cache: LayerCache | None = None
) -> np.ndarray:
    """Class of each text by its row, int64 (num_texts,); -1 for rows that no batch held.

    `store`: the layers of these very texts, where they are known.
    """
    classes = np.full(num_texts, -1, dtype=np.int64)
    for batch in batches:
        logits = model(batch.to(device), upper=cached_layers(cache, batch, device))
        classes[batch.rows] = logits.argmax(-1).cpu().numpy()
    return classes


def cached_layers(cache: LayerCache | None, batch: Batch, device: torch.device) -> list[Tensor] | None:
    return None if cache is None else [layer.to(device) for layer in cache.read(batch)]


class ClassificationTask:
    """Labels of `texts`, learned on the training rows; chosen by accuracy on the validation rows.

    `store`: the layers of `texts`, where the model's encoder is kept as it is and they were computed before.
    """

    unit = "texts"
    better_is = ("accuracy", "higher")

    def __init__(
        self,
        label: str,
        texts: EncodedTexts,
        labels: np.ndarray,
        training_rows: np.ndarray,
        validation_rows: np.ndarray,
        batch_tokens: int,
        seed: int,
        device: torch.device,
        cache: LayerCache | None = None,
    ):
        self.label = label
        self.texts = texts
        self.labels = labels
        self.training_rows = training_rows
        self.validation_rows = validation_rows
        self.batch_tokens = batch_tokens
        self.seed = seed
        self.device = device
        self.cache = cache

    def plan(self, epoch: int) -> Sequence[np.ndarray]:
        return epoch_batches(self.texts, self.training_rows, self.batch_tokens, self.seed, epoch)

    def loss(self, model: nn.Module, item: np.ndarray, rank: int, world_size: int) -> tuple[Tensor, int, int]:
        share = item[rank::world_size]
        rows = share if len(share) else item[:1]
        batch = collate(self.texts, rows)
        upper = cached_layers(self.cache, batch, self.device)
        labels = torch.from_numpy(self.labels[rows]).to(self.device)
        loss = model(batch.to(self.device), labels, upper)
        return (loss, len(rows), len(rows)) if len(share) else (loss * 0.0, 0, 0)

    def validate(self, model: nn.Module) -> dict[str, float]:
        rows = self.validation_rows
        batches = iterate_batches(self.texts, rows, self.batch_tokens)
        predicted = predict(model, batches, len(self.texts), self.device, self.cache)[rows]
        return {"accuracy": float((predicted == self.labels[rows]).mean())}
