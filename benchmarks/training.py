"""The project's own training step, taken out of fit() so that a clock can stand beside it."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.data import Data
from benchmarks.measure import now
from benchmarks.models import SHAPE
from bilm.cli.run import Runtime
from bilm.config import BiLMConfig, FitConfig
from bilm.modules.language_model import DIRECTIONS, BiLM
from bilm.runtime import threads
from bilm.training.loop import State, Tally, Task
from bilm.training.optimizer import build_optimizer
from bilm.training.pretraining import PretrainingTask

FIT = FitConfig()


class Training:
    """What fit() does to one batch, without its bar, its schedule and its checkpoints."""

    def __init__(self, model: nn.Module, task: Task, optimizer: torch.optim.Optimizer, runtime: Runtime):
        self.model = model.train()
        self.task = task
        self.optimizer = optimizer
        self.runtime = runtime
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.tally = Tally(State(), is_main=True)

    def step(self, item: Any) -> int:
        """One step on a batch of task.plan(); returns how many targets it had."""
        started = time.monotonic()
        with self.runtime.autocast():
            loss, count, units = self.task.loss(self.model, item, 0, 1)
        (loss * (1 / count)).backward()
        self.update(loss.detach(), count)
        threads.after_step(units, time.monotonic() - started)
        return count

    def update(self, loss: torch.Tensor, count: int) -> None:
        """What follows the backward pass: the gradient clipped and looked at, AdamW."""
        norm = nn.utils.clip_grad_norm_(self.parameters, FIT.clip_norm)
        good = self.tally.add(loss, count, norm)
        self.optimizer.found_inf = 1.0 - good.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def seconds(self, items: Sequence[Any]) -> tuple[float, int]:
        """How long the steps on `items` take, and how many targets they have."""
        started = now(self.runtime.device)
        targets = sum(self.step(item) for item in items)
        return now(self.runtime.device) - started, targets


def pretraining(data: Data, runtime: Runtime, seed: int, config: BiLMConfig = SHAPE) -> Training:
    """Training of a language model, by default with the default settings."""
    model = BiLM(config, len(data.vocabulary)).to(runtime.device)
    rows = (data.training_rows, data.validation_rows)
    task = PretrainingTask(data.texts, *rows, FIT.batch_tokens, seed, runtime.device)
    return Training(model, task, build_optimizer(model.learning_rates(FIT.learning_rate), FIT.weight_decay), runtime)


def tokens(targets: int) -> int:
    """Targets of both directions -> tokens: a token is a target in each of them."""
    return targets // len(DIRECTIONS)


def taken(plan: Sequence[Any], start: int, count: int) -> list[Any]:
    """`count` batches of `plan` from `start` on, from its beginning again where it is too short."""
    return [plan[i % len(plan)] for i in range(start, start + count)]
