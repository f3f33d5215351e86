"""Pretraining beside other programs: with the number of threads that is chosen, one per core, and one alone."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from joblib import cpu_count

from benchmarks.data import training_data
from benchmarks.measure import figure, four_digits
from benchmarks.parts import Job
from benchmarks.training import Training, pretraining, taken, tokens
from bilm.cli.run import Runtime
from bilm.runtime import threads
from bilm.runtime.terminal import progress

SECONDS_TO_NOTICE = 10.0


def measure(job: Job, runtime: Runtime) -> dict[str, Any]:
    """By how many programs run beside: tokens_per_second and `threads` at the end, for each way to choose threads.

    A program beside is a loop that does nothing. In "one_that_comes_later" it starts once training has begun, and is
    measured after the seconds in which it is noticed. share_of_alone: of the speed of a thread per core and nothing
    beside.
    """
    cores = cpu_count()
    data = training_data(job.train, job.run.limit, job.folder)
    training = pretraining(data, runtime, job.run.seed)
    plan = training.task.plan(0)
    # A thread per core beside other programs is several times as slow: fewer steps than elsewhere.
    items = taken(plan, job.sizes.warm_steps, job.sizes.repeats * max(1, job.sizes.steps // 4))
    training.seconds(taken(plan, 0, job.sizes.warm_steps))
    situations = {"alone": 0, "one": 1, "one_per_core": cores, "one_that_comes_later": 1}
    found: dict[str, Any] = {}
    for name, beside in progress(situations.items(), unit="situation", label="beside other programs"):
        late = name == "one_that_comes_later"
        found[name] = {}
        for way, number in {"chosen": None, "one_per_core": cores, "one": 1}.items():
            count = threads.start(number)
            if late and count is not None:
                count.choose()
            with busy_loops(beside):
                if count is not None and not late:
                    count.choose()
                if late:
                    _train_for(training, plan, job, SECONDS_TO_NOTICE)
                rates = [_rate(training, items[i :: job.sizes.repeats]) for i in range(job.sizes.repeats)]
            found[name][way] = {"tokens_per_second": figure(rates), "threads": torch.get_num_threads()}
            threads.stop()
    whole = found["alone"]["one_per_core"]["tokens_per_second"]["median"]
    for situation in found.values():
        for entry in situation.values():
            entry["share_of_alone"] = four_digits(entry["tokens_per_second"]["median"] / whole)
    return {"cores": cores, "beside": found}


def _train_for(training: Training, plan: Any, job: Job, seconds: float) -> None:
    end = time.monotonic() + (seconds if job.sizes.repeats > 1 else 0.0)
    for item in plan:
        if time.monotonic() > end:
            return
        training.step(item)


def _rate(training: Training, items: list[Any]) -> float:
    seconds, targets = training.seconds(items)
    return tokens(targets) / seconds


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """So many processes that keep a core busy each; they have been started when this begins."""
    loop = "print(flush=True)\nwhile True: pass"
    loops = [subprocess.Popen([sys.executable, "-c", loop], stdout=subprocess.PIPE) for _ in range(count)]  # noqa: S603
    try:
        for process in loops:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in loops:
            process.kill()
            process.communicate()
