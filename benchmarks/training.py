"""Models with default settings, and the training step of fit(), extracted so that it can be timed.

The weights are random: the cost of a model does not depend on them.
"""

import time
from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from benchmarks.data import Data
from benchmarks.measure import now
from benchmarks.parts import Job
from bilm.cli.start import Runtime
from bilm.config import FIXED_ENCODER_MODES, BiLMConfig, ClassifierConfig, FitConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.modules.language_model import DIRECTIONS, BiLM
from bilm.runtime import threads
from bilm.text.ag_news import CLASS_NAMES
from bilm.training.loop import Task
from bilm.training.optimizer import build_optimizer
from bilm.training.pretraining import PretrainingTask
from bilm.training.state import State, Tally

SHAPE = BiLMConfig()
FIT = FitConfig()
Model = TypeVar("Model", bound=nn.Module)


class Training(Generic[Model]):
    """Steps of fit() without its progress bar, learning-rate schedule and checkpoints."""

    def __init__(self, model: Model, task: Task, rates: Sequence[tuple[nn.Module, float]], runtime: Runtime):
        """rates: modules and their learning rates."""
        self.model = model.train()
        self.task = task
        self.plan = task.plan(0)
        self.runtime = runtime
        self.optimizer = build_optimizer(rates, FIT.weight_decay)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.tally = Tally(State(), is_main=True)

    def batches(self, start: int, count: int) -> list[Any]:
        """Return `count` batches of the first epoch's plan from position `start`; see `cyclic_slice`."""
        return cyclic_slice(self.plan, start, count)

    def step(self, item: Any) -> int:
        """Train on one batch of task.plan(); return its number of targets."""
        started = time.monotonic()
        with self.runtime.autocast():
            loss, count, units = self.task.loss(self.model, item, 0, 1)
        (loss * (1 / count)).backward()
        self.update(loss.detach(), count)
        threads.after_step(units, time.monotonic() - started)
        return count

    def update(self, loss: torch.Tensor, count: int) -> None:
        """Do what follows the backward pass: clip the gradient, check that it is finite, update the weights."""
        norm = nn.utils.clip_grad_norm_(self.parameters, FIT.clip_norm)
        is_finite = self.tally.add(loss, count, norm)
        self.optimizer.found_inf = 1.0 - is_finite.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def seconds(self, items: Iterable[Any]) -> tuple[float, int]:
        """Train on the batches `items`; return the seconds and the number of targets."""
        started = now()
        targets = sum(self.step(item) for item in items)
        return now() - started, targets

    def tokens_per_second(self, items: Sequence[Any]) -> float:
        """Train a language model on the batches `items`. A token is a target in both directions, counted once."""
        seconds, targets = self.seconds(items)
        return targets / len(DIRECTIONS) / seconds


def pretraining(data: Data, job: Job, runtime: Runtime, config: BiLMConfig = SHAPE) -> Training[BiLM]:
    """Prepare the training of a language model, by default with the default settings, and do the warm-up steps."""
    model = BiLM(config, len(data.vocabulary)).to(runtime.device)
    rows = (data.training_rows, data.validation_rows)
    task = PretrainingTask(data.texts, *rows, FIT.batch_tokens, job.run.seed, runtime.device)
    training = Training(model, task, model.learning_rates(FIT.learning_rate), runtime)
    # On a GPU, every shape is used a few times before its CUDA graph is captured.
    warm_steps = job.sizes.warm_steps if runtime.device.type == "cpu" else len(training.plan)
    training.seconds(training.batches(0, warm_steps))
    return training


def classifier_on(encoder: BiLM, mode: str = "trainable") -> EncoderClassifier:
    """Build a classifier on `encoder`, which is trained with it in mode finetune."""
    classifier = Classifier(ClassifierConfig(), mode, encoder, len(CLASS_NAMES), seed=0)
    return EncoderClassifier(encoder, classifier, mode not in FIXED_ENCODER_MODES)


def cyclic_slice(items: Sequence[Any], start: int, count: int) -> list[Any]:
    """Return `count` items from position `start`, continuing at the first item after the last one."""
    return list(islice(cycle(items), start, start + count))
