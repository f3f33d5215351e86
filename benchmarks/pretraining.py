"""Tokens per second in pretraining: against a plain implementation, by token layer, and while other programs run."""

import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from joblib import cpu_count

from benchmarks.data import descriptions, training_data
from benchmarks.efficiency import training_operations
from benchmarks.measure import figure, four_digits, now, timed
from benchmarks.parts import Job
from benchmarks.reference import TEXTS_IN_BATCH, PlainTraining
from benchmarks.training import SHAPE, cyclic_slice, pretraining
from bilm.cli.start import Runtime
from bilm.config import TOKEN_LAYERS
from bilm.modules.language_model import BiLM
from bilm.runtime import threads
from bilm.runtime.terminal import progress
from bilm.text.batching import collate, evaluation_batch_tokens, iterate_batches
from bilm.text.vocabulary import BOS, PAD, EncodedTexts

DOCUMENTS = 120_000  # of AG News as published
SECONDS_TO_NOTICE = 10.0  # after which pretraining has adapted to a program that was started
DEFINITION = (
    "a target that is not padding, counted once although both directions learn from it: a text of n words and its two "
    "boundaries has n + 1"
)


def measure(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Return the tokens per second of this project's step and of the plain one, their ratio, and derived figures."""
    sizes = job.sizes
    data = training_data(job.train, job.run.limit, job.folder)
    training = pretraining(data, job, runtime)
    plain = PlainTraining(SHAPE, len(data.vocabulary), data.texts, runtime.device)
    order = np.random.default_rng(job.run.seed).permutation(data.training_rows)
    plain_plan = [order[i : i + TEXTS_IN_BATCH] for i in range(0, len(order) - TEXTS_IN_BATCH + 1, TEXTS_IN_BATCH)]
    for rows in cyclic_slice(plain_plan, 0, min(3, sizes.warm_steps)):
        plain.step(rows)
    rates, plain_rates = [], []
    for i in progress(range(sizes.repeats), unit="turn", label="pretraining, and the plain reference"):
        # In turns, so that a change of the machine's speed affects both.
        rates.append(training.tokens_per_second(training.batches(i * sizes.steps, sizes.steps)))
        started = now()
        tokens = sum(map(plain.step, cyclic_slice(plain_plan, i * sizes.reference_steps, sizes.reference_steps)))
        plain_rates.append(tokens / (now() - started))
    speed, plain_speed = figure(rates), figure(plain_rates)
    ids = torch.cat([collate(data.texts, rows).ids.flatten() for rows in training.plan[: sizes.steps]]).numpy()
    return {
        "token": DEFINITION,
        "tokens_per_second": speed,
        "reference_tokens_per_second": plain_speed,
        "ratio_to_plain_reference": four_digits(speed["median"] / plain_speed["median"]),
        "seconds_per_epoch_120000": round(DOCUMENTS * data.tokens_per_document / speed["median"], 1),
        "operations_per_token": training_operations(training.model, ids[(ids != PAD) & (ids != BOS)]),
    }


def measure_token_layers(job: Job, runtime: Runtime) -> dict[str, Any]:
    """For each token layer: tokens per second in pretraining and in encoding test.csv, and the layer's parameters.

    first: all words of the texts are new; later: all of them have been computed before, as in a second pass.
    """
    sizes, texts = job.sizes, descriptions(job.test, job.run.limit)[0]
    trainings, vocabularies = {}, {}
    for name in TOKEN_LAYERS:
        config = replace(SHAPE, token_layer=name)
        data = training_data(job.train, job.run.limit, job.folder, open_ended=config.reads_characters)
        trainings[name], vocabularies[name] = pretraining(data, job, runtime, config), data.vocabulary
    rates: dict[str, list[list[float]]] = {name: [] for name in TOKEN_LAYERS}
    for i in progress(range(sizes.repeats), unit="turn", label="token layers"):
        for name, training in trainings.items():
            rate = training.tokens_per_second(training.batches(i * sizes.steps, sizes.steps))
            encoded = vocabularies[name].encode(texts)
            seconds = timed(partial(_encode, training.model.eval(), encoded, runtime), 2)
            training.model.train()
            rates[name].append([rate, *(int((encoded.lengths - 1).sum()) / s for s in seconds)])
    keys = ("tokens_per_second", "first_encoded_per_second", "later_encoded_per_second")
    return {
        name: {
            **{key: figure(values) for key, values in zip(keys, zip(*rates[name], strict=True), strict=True)},
            "parameters": sum(p.numel() for p in training.model.tokens.parameters()),
        }
        for name, training in trainings.items()
    }


@torch.no_grad()
def _encode(model: BiLM, texts: EncodedTexts, runtime: Runtime) -> None:
    """Compute all layers of all texts, in the batches of an evaluation."""
    with runtime.autocast():
        for batch in iterate_batches(texts, np.arange(len(texts)), evaluation_batch_tokens(runtime.device)):
            model.encode(batch.to(runtime.device))


# --- while other programs run ----------------------------------------------------------------------------------------


def measure_busy(job: Job, runtime: Runtime) -> dict[str, Any]:
    """For each number of other programs and each way to set threads: tokens_per_second and the final `threads`.

    The other programs are loops that compute nothing. In "one_that_comes_later" one starts after training has begun;
    the measurement begins when there has been time to notice it. share_of_alone: relative to a thread per core without
    other programs.
    """
    cores, repeats = cpu_count(), job.sizes.repeats
    training = pretraining(training_data(job.train, job.run.limit, job.folder), job, runtime)
    # With a thread per core and other programs, training is several times slower: fewer steps than elsewhere.
    items = training.batches(job.sizes.warm_steps, repeats * max(1, job.sizes.steps // 4))
    situations = {"alone": 0, "one": 1, "one_per_core": cores, "one_that_comes_later": 1}
    result: dict[str, Any] = {name: {} for name in situations}
    for name, programs in progress(situations.items(), unit="situation", label="with other programs"):
        comes_later = name == "one_that_comes_later"
        for way, number in {"chosen": None, "one_per_core": cores, "one": 1}.items():
            count = threads.start(number)
            if comes_later and count is not None:
                count.choose()
            with busy_loops(programs):
                if comes_later:
                    training.seconds(_for_seconds(SECONDS_TO_NOTICE if repeats > 1 else 0.0, training.plan))
                elif count is not None:
                    count.choose()
                rates = [training.tokens_per_second(items[i::repeats]) for i in range(repeats)]
            result[name][way] = {"tokens_per_second": figure(rates), "threads": torch.get_num_threads()}
            threads.stop()
    alone = result["alone"]["one_per_core"]["tokens_per_second"]["median"]
    for entry in (entry for ways in result.values() for entry in ways.values()):
        entry["share_of_alone"] = four_digits(entry["tokens_per_second"]["median"] / alone)
    return {"cores": cores, "beside": result}


def _for_seconds(seconds: float, items: Iterable[Any]) -> Iterator[Any]:
    end = time.monotonic() + seconds
    return takewhile(lambda _: time.monotonic() < end, items)


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Run `count` processes that keep a core busy each; the context is entered when all of them run."""
    command = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))  # noqa: S603
            stack.callback(process.kill)  # before the exit of Popen, which waits for the process
            assert process.stdout is not None
            process.stdout.readline()
        yield
