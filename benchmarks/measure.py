"""Figures with their spread, a clock that waits for the GPU, and the memory that a process took."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bilm.runtime.device import peak_memory

SECONDS_BETWEEN_SAMPLES = 0.05
_STATUS = Path("/proc/self/status")


def figure(values: Sequence[float]) -> dict[str, float]:
    """{"median", "min", "max", "repeats"}, in four significant digits."""
    low, middle, high = (four_digits(value) for value in (min(values), median(values), max(values)))
    return {"median": middle, "min": low, "max": high, "repeats": len(values)}


def four_digits(value: float) -> float:
    """1234.567 -> 1235.0."""
    return float(f"{value:.4g}")


def now(device: torch.device) -> float:
    """Seconds from some fixed moment; what was asked of a GPU before has been done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(function: Callable[[], Any], device: torch.device, repeats: int) -> list[float]:
    """Seconds that each of so many calls takes."""
    moments = [now(device)]
    for _ in range(repeats):
        function()
        moments.append(now(device))
    return [after - before for before, after in pairwise(moments)]


class Memory:
    """Context manager: the most memory that this process has held, MB (2^20 bytes).

    peak: all of it, mapped files counted in. anonymous: without what the kernel can drop and read again from a file;
    sampled every 50 ms, None where there is no /proc. gpu: what torch allocated there, None without one.

    /proc rather than getrusage: that starts with the peak of the process that this one was started by.
    """

    peak: float
    anonymous: float | None
    gpu: float | None = None

    def __enter__(self) -> "Memory":
        self._most = 0.0
        self._done = threading.Event()
        self._sampling = threading.Thread(target=self._sample, daemon=True)
        self._sampling.start()
        return self

    def _sample(self) -> None:
        while not self._done.wait(SECONDS_BETWEEN_SAMPLES):
            self._most = max(self._most, _status_mb("RssAnon") or 0.0)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._sampling.join()
        self.peak = _status_mb("VmHWM") or peak_memory(torch.device("cpu")) / 2**20
        self.anonymous = max(self._most, _status_mb("RssAnon") or 0.0) or None
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            self.gpu = torch.cuda.max_memory_allocated() / 2**20

    def figures(self) -> dict[str, int | None]:
        """{"peak_memory_mb", "anonymous_memory_mb"}, and "gpu_memory_mb" where there is a GPU; after the end."""
        anonymous = None if self.anonymous is None else round(self.anonymous)
        found = {"peak_memory_mb": round(self.peak), "anonymous_memory_mb": anonymous}
        return found if self.gpu is None else {**found, "gpu_memory_mb": round(self.gpu)}


def _status_mb(key: str) -> float | None:
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 2**10
    return None
