"""Pretraining of the language model: the task that fit() is given, and the perplexity it is chosen by."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bilm.metrics import perplexity
from bilm.modules.language_model import DIRECTIONS, BiLM
from bilm.runtime.distributed import Ranks
from bilm.text.batching import Batch, collate, epoch_batches, iterate_batches
from bilm.text.vocabulary import EncodedTexts


def perplexities(model: BiLM, batches: Iterable[Batch], device: torch.device, ranks: Ranks) -> dict[str, float]:
    """exp of the mean negative log-likelihood per target, for each direction, and the mean of the two.

    The ranks divide the batches among themselves; each returns the figures of all.
    """
    found_nll, count = [torch.zeros(len(DIRECTIONS), device=device)], 0
    for i, batch in enumerate(batches):
        if i % ranks.size == ranks.rank:
            found_nll.append(model(batch.to(device)))
            count += int((batch.lengths - 1).sum())
    # Summed in fp64 on the CPU: not every device has that type.
    *sums, total = ranks.sum(*torch.stack(found_nll).cpu().double().cumsum(0)[-1].tolist(), count)
    found = {f"{direction}_perplexity": perplexity(s, total) for direction, s in zip(DIRECTIONS, sums, strict=True)}
    return {**found, "perplexity": sum(found.values()) / len(found)}


class PretrainingTask:
    """Next word for the forward stack, previous word for the backward one, on the training rows of `texts`."""

    label = "language model"
    unit = "tokens"
    better_is = ("perplexity", "lower")

    def __init__(
        self,
        texts: EncodedTexts,
        training_rows: np.ndarray,
        validation_rows: np.ndarray,
        batch_tokens: int,
        seed: int,
        device: torch.device,
    ):
        self.texts = texts
        self.training_rows = training_rows
        self.validation_rows = validation_rows
        self.batch_tokens = batch_tokens
        self.seed = seed
        self.device = device

    def plan(self, epoch: int) -> Sequence[np.ndarray]:
        return epoch_batches(self.texts, self.training_rows, self.batch_tokens, self.seed, epoch)

    def loss(self, model: nn.Module, item: np.ndarray, rank: int, world_size: int) -> tuple[Tensor, int, int]:
        share = item[rank::world_size]
        # A rank that is left without a text steps along on one whose loss does not count.
        batch = collate(self.texts, share if len(share) else item[:1]).to(self.device)
        nll = model(batch).sum()
        targets = len(DIRECTIONS) * int((batch.lengths - 1).sum())
        return (nll, targets, int(batch.lengths.sum())) if len(share) else (nll * 0.0, 0, 0)

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, BiLM)
        batches = iterate_batches(self.texts, self.validation_rows, self.batch_tokens)
        return perplexities(model, batches, self.device, Ranks())
