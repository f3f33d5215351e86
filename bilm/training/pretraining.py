"""Pretraining of the language model: the task for fit(), and validation perplexity."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bilm.metrics import perplexity
from bilm.modules.language_model import DIRECTIONS, BiLM
from bilm.runtime.distributed import Ranks
from bilm.text.batching import Batch
from bilm.training.text_task import TextTask


def perplexities(model: BiLM, batches: Iterable[Batch], device: torch.device, ranks: Ranks) -> dict[str, float]:
    """exp of the mean negative log-likelihood per target, for each direction, and the mean of the two.

    The batches are divided among the ranks; each rank returns the figures over all of them.
    """
    nll, count = [torch.zeros(len(DIRECTIONS), device=device)], 0
    for i, batch in enumerate(batches):
        if i % ranks.size == ranks.rank:
            nll.append(model(batch.to(device)))
            count += int((batch.lengths - 1).sum())
    # Summed in fp64 on the CPU: not every device has that type.
    *sums, total = ranks.sum(*torch.stack(nll).cpu().double().cumsum(0)[-1].tolist(), count)
    figures = {f"{direction}_perplexity": perplexity(s, total) for direction, s in zip(DIRECTIONS, sums, strict=True)}
    return {**figures, "perplexity": sum(figures.values()) / len(figures)}


class PretrainingTask(TextTask):
    """Predict the next word with the forward stack and the previous word with the backward one."""

    label = "language model"
    unit = "tokens"
    better_is = ("perplexity", "lower")

    def batch_loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int, int]:
        nll = model(batch.to(self.device)).sum()
        tokens = int((batch.lengths - 1).sum())
        return nll, len(DIRECTIONS) * tokens, tokens

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, BiLM)
        return perplexities(model, self.validation_batches(), self.device, Ranks())
