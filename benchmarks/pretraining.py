"""Pretraining, tokens per second: the project's own step and the plain reference's, turn by turn."""

from typing import Any

import numpy as np
import torch

from benchmarks.arithmetic import training_per_token
from benchmarks.data import training_data
from benchmarks.measure import figure, four_digits, now
from benchmarks.models import SHAPE
from benchmarks.parts import Job
from benchmarks.reference import TEXTS_IN_BATCH, PlainTraining
from benchmarks.training import pretraining, taken, tokens
from bilm.cli.run import Runtime
from bilm.modules.language_model import BiLM
from bilm.runtime.terminal import progress
from bilm.text.batching import collate
from bilm.text.vocabulary import BOS, PAD

DOCUMENTS = 120_000  # of AG News as published
DEFINITION = (
    "a target that is no padding, counted once though both directions learn from it: a text of n words and its two "
    "boundaries has n + 1"
)


def measure(job: Job, runtime: Runtime) -> dict[str, Any]:
    """tokens_per_second of both, their ratio, the extrapolated epoch, and what a token asks of the matrices."""
    sizes = job.sizes
    data = training_data(job.train, job.run.limit, job.folder)
    ours = pretraining(data, runtime, job.run.seed)
    plain = PlainTraining(SHAPE, len(data.vocabulary), data.texts, runtime.device)
    plan = ours.task.plan(0)
    order = np.random.default_rng(job.run.seed).permutation(data.training_rows)
    plain_plan = [order[i : i + TEXTS_IN_BATCH] for i in range(0, len(order) - TEXTS_IN_BATCH + 1, TEXTS_IN_BATCH)]

    ours.seconds(taken(plan, 0, sizes.warm_steps))
    for rows in taken(plain_plan, 0, min(3, sizes.warm_steps)):
        plain.step(rows)
    rates: list[float] = []
    plain_rates: list[float] = []
    for repeat in progress(range(sizes.repeats), unit="turn", label="pretraining, and the plain reference"):
        # Turn by turn: what else changes on the machine meets both.
        seconds, targets = ours.seconds(taken(plan, repeat * sizes.steps, sizes.steps))
        rates.append(tokens(targets) / seconds)
        started = now(runtime.device)
        learned = sum(
            plain.step(rows) for rows in taken(plain_plan, repeat * sizes.reference_steps, sizes.reference_steps)
        )
        plain_rates.append(learned / (now(runtime.device) - started))
    speed, plain_speed = figure(rates), figure(plain_rates)
    assert isinstance(ours.model, BiLM)
    seen = torch.cat([collate(data.texts, rows).ids.flatten() for rows in plan[: sizes.steps]]).numpy()
    return {
        "token": DEFINITION,
        "tokens_per_second": speed,
        "reference_tokens_per_second": plain_speed,
        "ratio_to_plain_reference": four_digits(speed["median"] / plain_speed["median"]),
        "seconds_per_epoch_120000": round(DOCUMENTS * data.tokens_per_document / speed["median"], 1),
        "operations_per_token": training_per_token(ours.model, seen[(seen != PAD) & (seen != BOS)]),
    }
