"""Where a pretraining step's time goes, and how fast its LSTMs are when they are alone."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.data import Data, training_data
from benchmarks.measure import figure, now, timed
from benchmarks.models import SHAPE
from benchmarks.parts import Job
from benchmarks.training import Training, pretraining, taken
from bilm.cli.run import Runtime
from bilm.modules.language_model import DIRECTIONS, BiLM
from bilm.runtime.terminal import progress
from bilm.text.batching import collate, reverse_within_length


def measure(job: Job, runtime: Runtime) -> dict[str, Any]:
    """step_ms: milliseconds of a step by its parts; lstm_tokens_per_second: of both stacks alone, and without dropout.

    A step is a batch, so each figure's spread is that over batches of other shapes.
    """
    data = training_data(job.train, job.run.limit, job.folder)
    training = pretraining(data, runtime, job.run.seed)
    plan = training.task.plan(0)
    training.seconds(taken(plan, 0, job.sizes.warm_steps))
    items = taken(plan, 0, job.sizes.parts_steps)
    parts = [parts_of_a_step(training, data, item) for item in progress(items, unit="step", label="parts of a step")]
    found: dict[str, Any] = {"step_ms": {name: figure([1e3 * part[name] for part in parts]) for name in parts[0]}}
    for name, dropout in (("", SHAPE.dropout), ("_without_dropout", 0.0)):
        model = BiLM(replace(SHAPE, dropout=dropout), len(data.vocabulary)).to(runtime.device).train()
        lstm_rate(model, data, items[: job.sizes.warm_steps], runtime)
        turns = [taken(plan, i * job.sizes.steps, job.sizes.steps) for i in range(job.sizes.repeats)]
        found[f"lstm_tokens_per_second{name}"] = figure([lstm_rate(model, data, turn, runtime) for turn in turns])
    return found


def parts_of_a_step(training: Training, data: Data, item: np.ndarray) -> dict[str, float]:
    """Seconds of each part of a step, and of the whole.

    The softmax is what the forward pass takes beyond the states that it predicts from, which are computed once for this
    alone; so it depends on nothing inside of it.
    """
    model, device = training.model, training.runtime.device
    assert isinstance(model, BiLM)
    # Once without the clock: what oneDNN does at its first sight of a shape belongs to no part.
    training.step(item)
    started = now(device)
    batch = collate(data.texts, item).to(device)
    collated = now(device)
    with training.runtime.autocast():
        states = model.lm_targets(batch)
    predicted = now(device)
    del states
    before = now(device)
    with training.runtime.autocast():
        loss = model(batch).sum()
    forward = now(device)
    count = len(DIRECTIONS) * int((batch.lengths - 1).sum())
    (loss * (1 / count)).backward()
    backward = now(device)
    training.update(loss.detach(), count)
    ended = now(device)
    lstm = predicted - collated
    return {
        "data": collated - started,
        "lstm_forward": lstm,
        "softmax_forward": forward - before - lstm,
        "backward": backward - forward,
        "optimizer": ended - backward,
        "whole": collated - started + ended - before,
    }


def lstm_rate(model: BiLM, data: Data, items: list[np.ndarray], runtime: Runtime) -> float:
    """Tokens per second through both stacks, forward and backward, in the batches `items` of training."""
    seconds, learned = 0.0, 0
    for item in items:
        batch = collate(data.texts, item).to(runtime.device)
        x = model.tokens(batch.ids, batch.lexicon).detach()
        inputs = [x.requires_grad_(), reverse_within_length(x, batch.lengths).detach().requires_grad_()]
        seconds += sum(timed(partial(_through_the_stacks, model, inputs, batch.lengths, runtime), runtime.device, 1))
        model.zero_grad(set_to_none=True)
        learned += int((batch.lengths - 1).sum())
    return learned / seconds


def _through_the_stacks(model: BiLM, inputs: list[torch.Tensor], lengths: torch.Tensor, runtime: Runtime) -> None:
    stacks = (model.forward_lstm, model.backward_lstm)
    with runtime.autocast():
        tops = [stack(x, lengths)[-1] for stack, x in zip(stacks, inputs, strict=True)]
    torch.autograd.backward(tops, [torch.ones_like(top) for top in tops])
