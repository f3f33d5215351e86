"""The parts of the benchmark. Each runs in its own process, so that they share neither memory nor warm caches."""

import multiprocessing
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bilm.cli.options import RunOptions
from bilm.cli.start import Runtime, start
from bilm.runtime.device import peak_memory
from bilm.runtime.errors import UserError

SECONDS_BETWEEN_SAMPLES = 0.05


@dataclass(frozen=True)
class Sizes:
    """How much is measured. `repeats` is for every figure; a step is a batch, and steps are counted per repetition."""

    repeats: int = 5
    gemm: int = 2048  # rows and columns of the matrices
    copied_mb: int = 512
    warm_steps: int = 15  # once
    steps: int = 40
    reference_steps: int = 5  # each takes seconds on a CPU
    parts_steps: int = 60  # in total: each step is a repetition
    classifier_rows: int = 8_000
    finetune_rows: int = 2_000
    classifier_repeats: int = 3
    classifier_epochs: int = 3
    single_documents: int = 100  # classified one by one
    slow_repeats: int = 3  # of measurements that read a complete file
    growth: tuple[int, ...] = (10_000, 100_000, 1_000_000)  # documents
    growth_steps: int = 30


QUICK = Sizes(
    repeats=1,
    gemm=256,
    copied_mb=16,
    warm_steps=1,
    steps=2,
    reference_steps=1,
    parts_steps=2,
    classifier_rows=60,
    finetune_rows=60,
    classifier_repeats=1,
    classifier_epochs=2,
    single_documents=5,
    slow_repeats=1,
    growth=(200, 400),
    growth_steps=2,
)
# Rows of each file that --quick reads.
QUICK_ROWS = 400


@dataclass(frozen=True)
class Job:
    """Input of every part. train, test: the CSV files; folder: for temporary files, removed after the benchmark."""

    run: RunOptions
    sizes: Sizes
    train: Path
    test: Path
    folder: Path


Part = Callable[[Job, Runtime], dict[str, Any]]


def in_own_process(part: Part, job: Job) -> tuple[dict[str, Any], dict[str, int | None]]:
    """Return the result of `part` and the figures of `memory_of_process`. Raises what `part` raises."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        try:
            return pool.submit(_measure, part, job).result()
        except BrokenProcessPool:
            raise UserError(
                "a process of the benchmark was killed; most likely the machine ran out of memory."
            ) from None
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.kill()
            raise


def _measure(part: Part, job: Job) -> tuple[dict[str, Any], dict[str, int | None]]:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes; the parent ends this one
    tqdm.set_lock(threading.RLock())  # the default lock is a semaphore that outlives a killed process
    with memory_of_process() as memory:
        figures = part(job, start(job.run))
    return figures, memory


@contextmanager
def memory_of_process() -> Iterator[dict[str, int | None]]:
    """Yield a dictionary that receives, at the end, the peak memory of this process in MB (2^20 bytes).

    peak_memory_mb: resident memory, mapped files included. anonymous_memory_mb: without pages that the kernel can drop
    and read from a file again; sampled every 50 ms, None without /proc. gpu_memory_mb: allocated by torch, only if a
    GPU was used.

    The peak is read from /proc because the value of getrusage includes the peak of the parent process.
    """
    figures: dict[str, int | None] = {}
    samples, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(SECONDS_BETWEEN_SAMPLES):
            samples.append(status_mb().get("RssAnon", 0.0))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    yield figures
    done.set()
    thread.join()
    status = status_mb()
    figures["peak_memory_mb"] = round(status.get("VmHWM") or peak_memory(torch.device("cpu")) / 2**20)
    figures["anonymous_memory_mb"] = round(max(*samples, status.get("RssAnon", 0.0))) or None
    if torch.cuda.is_initialized():
        figures["gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)


def status_mb(process: int | str = "self") -> dict[str, float]:
    """Return the sizes that the kernel reports for a process, in MB; empty without /proc, or when it has ended."""
    text = ""
    with suppress(OSError):
        text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return {name: int(kilobytes) / 2**10 for name, kilobytes in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
