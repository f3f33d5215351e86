"""How many threads a command computes with: as many as cores are free, and fewer while other programs need them.

OpenMP threads wait for each other by spinning, so that one thread without a core of its own holds up all others: beside
a single busy program, training with a thread per core is slower than with one thread (results/benchmark.json).

Only commands call `start`; a library call leaves the number as its caller has it. OMP_NUM_THREADS and --threads always
win. `after_step` is called by the loops of training and inference, on the thread that computes.

Forward passes give the same bits with any number of threads. Gradients may not: a matrix product can be split along
the axis that it sums over, depending on its shape. Those of the default language model have the same bits with one and
two threads, those of classifiers have not, and with three or more hardly any have. So a training run tries it on some
of its batches before it begins (`settle_for_training`): either it may move between one and two threads, or the number
is fixed for the run and is one of its settings.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

# The largest number of threads with which gradients can be expected to have the same bits as with one.
MOST_WITH_SAME_GRADIENTS = 2
SECONDS_BEFORE_FIRST_LOOK = 0.25
SECONDS_BETWEEN_LOOKS = 2.0
# Looks in a row that find too few cores free, after which threads are given up.
LOOKS_BEFORE_FEWER = 2
# How long cores must be free before threads are added.
QUIET_SECONDS = 60.0
# A step that takes this many times as long per unit as the best one with as many threads has lost a core.
SLOWER = 2.0


@dataclass(frozen=True)
class CpuUse:
    """CPU seconds that had been used at a moment: on the `cores` open to this process, and by this process alone."""

    moment: float
    cores: int
    all: float
    own: float

    @classmethod
    def now(cls) -> "CpuUse":
        import psutil

        cores = psutil.cpu_times(percpu=True)
        process = psutil.Process()
        if hasattr(process, "cpu_affinity"):  # not on macOS
            cores = [cores[i] for i in process.cpu_affinity() if i < len(cores)]
        # What the hypervisor gives to others ("steal") is as little ours as what other programs use.
        names = ("user", "nice", "system", "irq", "softirq", "steal", "interrupt", "dpc")
        used = sum(getattr(core, name, 0.0) for core in cores for name in names)
        return cls(time.monotonic(), len(cores), used, time.process_time())


def cores_used_by_others(before: CpuUse, after: CpuUse) -> float:
    """How many cores other programs kept busy on average between two moments."""
    seconds = max(after.moment - before.moment, 1e-3)
    return max(0.0, (after.all - before.all - (after.own - before.own)) / seconds)


class ThreadCount:
    """Chooses the number of threads for a command, and changes it while the command runs.

    most: threads that are never exceeded; set_number: called with each new number.
    """

    def __init__(self, most: int, set_number: Callable[[int], None], look: Callable[[], CpuUse] = CpuUse.now):
        self.most = most
        self.number = most
        self.fixed = False
        self._set_number = set_number
        self._look = look
        self._before = look()
        self._wait = SECONDS_BEFORE_FIRST_LOOK
        self._too_many = 0
        self._quiet_since: float | None = None
        self._seconds, self._units, self._best = 0.0, 0, float("inf")

    def choose(self) -> int:
        """A first number, from what other programs have used since this object was made (a quarter of a second)."""
        if (missing := self._before.moment + SECONDS_BEFORE_FIRST_LOOK - time.monotonic()) > 0:
            time.sleep(missing)
        self.change_to(self._fitting(self._look()))
        return self.number

    def fix(self, number: int) -> None:
        """Compute with this number until the end."""
        self.fixed = True
        self.change_to(number)

    def after_step(self, units: int, seconds: float) -> None:
        """Count a step of `units` (tokens, for instance; 0 where steps do not compare) that took `seconds`."""
        if self.fixed:
            return
        self._units += units
        self._seconds += seconds
        now = time.monotonic()
        if now - self._before.moment < self._wait:
            return
        self._wait = SECONDS_BETWEEN_LOOKS
        pace = self._seconds / self._units if self._units else 0.0
        self._seconds, self._units = 0.0, 0
        slow = pace > SLOWER * self._best
        if pace:
            self._best = min(self._best, pace)
        fitting = self._fitting(self._look())
        self._too_many = self._too_many + 1 if fitting < self.number else 0
        if fitting <= self.number:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        if self.number > 1 and (slow or self._too_many >= LOOKS_BEFORE_FEWER):
            self.change_to(min(fitting, self.number - 1))
        elif self._quiet_since is not None and now - self._quiet_since >= QUIET_SECONDS:
            self.change_to(fitting)

    def _fitting(self, use: CpuUse) -> int:
        """The number of threads that other programs leave room for, by their use since the last look."""
        free = use.cores - cores_used_by_others(self._before, use)
        self._before = use
        return min(self.most, max(1, int(free + 0.5)))

    def change_to(self, number: int) -> None:
        """Go on with this number."""
        number = max(1, number)
        if number != self.number:
            self._best = float("inf")
        self._too_many, self._quiet_since = 0, None
        self.number = number
        self._set_number(number)


_active: ThreadCount | None = None


def start(wanted: int | None) -> ThreadCount | None:
    """Begin to choose for the running command; None where `wanted` or OMP_NUM_THREADS says the number."""
    import torch
    from joblib import cpu_count  # counts the quota of the control group, too

    from bilm.runtime.process import at_end

    global _active
    at_end(stop)
    at_end(_number_setter(torch.get_num_threads()))
    if wanted is not None:
        torch.set_num_threads(wanted)
        return None
    if os.environ.get("OMP_NUM_THREADS"):
        return None
    _active = ThreadCount(max(1, min(cpu_count(), torch.get_num_threads())), torch.set_num_threads)
    return _active


def _number_setter(number: int) -> Callable[[], None]:
    import torch

    return lambda: torch.set_num_threads(number)


def settle_for_training(have_same_gradients: Callable[[int, int], bool]) -> int | None:
    """Decide whether the number may change during a training run; returns it where it is fixed, None where it may.

    have_same_gradients: whether gradients with these two numbers of threads have the same bits.
    """
    import torch

    number = torch.get_num_threads()
    if _active is None:
        return number
    few = MOST_WITH_SAME_GRADIENTS
    if not _active.fixed and number <= few <= _active.most and have_same_gradients(1, few):
        _active.most = few
        _active.change_to(number)
        return None
    _active.fix(number)
    return number


def fix(number: int) -> int:
    """Go on with the `number` of a run that is resumed, unless the user said another one; returns the number in use."""
    import torch

    if _active is not None:
        _active.fix(number)
    return torch.get_num_threads()


def stop() -> None:
    """Leave the number as it is from now on."""
    global _active
    _active = None


def after_step(units: int = 0, seconds: float = 0.0) -> None:
    """See ThreadCount.after_step; nothing where no command chooses the number."""
    if _active is not None:
        _active.after_step(units, seconds)
