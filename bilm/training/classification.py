"""Training of a classifier: the task for fit(), and predictions."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from bilm.text.batching import Batch, iterate_batches
from bilm.text.vocabulary import EncodedTexts
from bilm.training.layer_cache import LayerCache
from bilm.training.text_task import TextTask


def predict(
    model: nn.Module, batches: Iterable[Batch], num_texts: int, device: torch.device, cache: LayerCache | None = None
) -> np.ndarray:
    """Class of each text by its row, int64 (num_texts,); -1 for rows that are in no batch.

    `cache`: the layers of these texts, if computed before.
    """
    classes = np.full(num_texts, -1, dtype=np.int64)
    for batch in batches:
        logits = model(batch.to(device), upper=cached_layers(cache, batch, device))
        classes[batch.rows] = logits.argmax(-1).cpu().numpy()
    return classes


def cached_layers(cache: LayerCache | None, batch: Batch, device: torch.device) -> list[Tensor] | None:
    """e1, e2, ... of `batch` on `device`; None without a cache."""
    return None if cache is None else [layer.to(device) for layer in cache.read(batch)]


class ClassificationTask(TextTask):
    """Predict the labels of texts; the best epoch is the one with the highest accuracy on the validation rows.

    `labels`: int (N,), of all `texts`. `cache`: the layers of `texts`, if they were computed before by an encoder that
    is not finetuned.
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
        super().__init__(texts, training_rows, validation_rows, batch_tokens, seed, device)
        self.label = label
        self.labels = labels
        self.cache = cache

    def batch_loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int, int]:
        upper = cached_layers(self.cache, batch, self.device)
        labels = torch.from_numpy(self.labels[batch.rows]).to(self.device)
        return model(batch.to(self.device), labels, upper), len(batch.rows), len(batch.rows)

    def validate(self, model: nn.Module) -> dict[str, float]:
        rows = self.validation_rows
        batches = iterate_batches(self.texts, rows, self.batch_tokens)
        predicted = predict(model, batches, len(self.texts), self.device, self.cache)[rows]
        return {"accuracy": float((predicted == self.labels[rows]).mean())}
