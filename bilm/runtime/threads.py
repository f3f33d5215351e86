"""The number of CPU threads of a command: one per free core, and fewer while other programs need the cores.

OpenMP threads wait for each other by spinning, so that one thread without a core of its own delays all others: next to
a single busy program, training with a thread per core is slower than with one thread (results/busy.json).

Only commands call `start`; the library does not change its caller's number of threads. OMP_NUM_THREADS and --threads
take precedence. The loops of training and inference call `after_step`, on the thread that computes.

Forward passes give the same bits with any number of threads. Gradients may not, since a matrix product can be split
along the axis that it sums over, depending on its shape. With one and two threads, gradients of the default language
model have the same bits and those of classifiers do not; with three or more threads, hardly any have. Therefore a
training run compares gradients of some of its batches before it starts (`settle_for_training`): either the number may
change between one and two, or it is fixed and becomes one of the settings of the run.
"""

import functools
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

# The largest number of threads with which gradients may have the same bits as with one.
MOST_WITH_SAME_GRADIENTS = 2
SECONDS_BEFORE_FIRST_LOOK = 0.25
SECONDS_BETWEEN_LOOKS = 2.0
# The number of threads is reduced after this many consecutive looks with too few free cores.
LOOKS_BEFORE_FEWER = 2
# The number of threads is increased when cores have been free for this time.
QUIET_SECONDS = 60.0
# A step slower than the fastest one by this factor, per unit and with as many threads, indicates a lost core.
SLOWER = 2.0


@dataclass(frozen=True)
class CpuUse:
    """CPU time in seconds up to a moment: of all programs on the `cores` available to this process, and its own."""

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
            # In some containers the list has other cores than those that the process may use.
            cores = [cores[i] for i in process.cpu_affinity() if i < len(cores)] or cores
        # Time that the hypervisor gives to other machines ("steal") counts like that of other programs.
        names = ("user", "nice", "system", "irq", "softirq", "steal", "interrupt", "dpc")
        used = sum(getattr(core, name, 0.0) for core in cores for name in names)
        return cls(time.monotonic(), len(cores), used, time.process_time())


def cores_used_by_others(before: CpuUse, after: CpuUse) -> float:
    """Return how many cores other programs used on average between two moments."""
    seconds = max(after.moment - before.moment, 1e-3)
    return max(0.0, (after.all - before.all - (after.own - before.own)) / seconds)


class ThreadCount:
    """Chooses the number of threads of a command, and changes it while the command runs.

    most: the maximum; set_number: called with each new number; look: measures the use of the CPU.
    """

    def __init__(self, most: int, set_number: Callable[[int], None], look: Callable[[], CpuUse] = CpuUse.now):
        self.most = most
        self.number = most
        self.fixed = False
        self._set_number = set_number
        self._look = look
        self._previous = look()
        self._interval = SECONDS_BEFORE_FIRST_LOOK
        self._too_many = 0  # consecutive looks with too few free cores
        self._quiet_since = math.inf
        # Since the last look; and the fewest seconds per unit with the present number of threads.
        self._seconds, self._units, self._best = 0.0, 0, math.inf

    def choose(self) -> int:
        """Choose the first number, by what other programs used since this object was created (at least 0.25 s)."""
        if (missing := self._previous.moment + SECONDS_BEFORE_FIRST_LOOK - time.monotonic()) > 0:
            time.sleep(missing)
        self.change_to(self._free_cores())
        return self.number

    def fix(self, number: int) -> None:
        """Use this number until the end."""
        self.fixed = True
        self.change_to(number)

    def after_step(self, units: int, seconds: float) -> None:
        """Record a step of `units` (tokens, for instance; 0 if steps are not comparable) and adapt the number."""
        if self.fixed:
            return
        self._units += units
        self._seconds += seconds
        now = time.monotonic()
        if now - self._previous.moment < self._interval:
            return
        self._interval = SECONDS_BETWEEN_LOOKS
        is_slow = False
        if self._units:
            pace = self._seconds / self._units
            is_slow = pace > SLOWER * self._best
            self._best = min(self._best, pace)
        self._seconds, self._units = 0.0, 0
        free = self._free_cores()
        self._too_many = self._too_many + 1 if free < self.number else 0
        self._quiet_since = min(self._quiet_since, now) if free > self.number else math.inf
        if self.number > 1 and (is_slow or self._too_many >= LOOKS_BEFORE_FEWER):
            self.change_to(min(free, self.number - 1))
        elif now - self._quiet_since >= QUIET_SECONDS:
            self.change_to(free)

    def _free_cores(self) -> int:
        """Return the number of cores, from 1 to `most`, that other programs left free since the last look."""
        previous, self._previous = self._previous, self._look()
        free = self._previous.cores - cores_used_by_others(previous, self._previous)
        return min(self.most, max(1, int(free + 0.5)))

    def change_to(self, number: int) -> None:
        """Use this number from now on."""
        if number != self.number:
            self._best = math.inf
        self._too_many, self._quiet_since = 0, math.inf
        self.number = number
        self._set_number(number)


_active: ThreadCount | None = None


def start(number: int | None) -> ThreadCount | None:
    """Start to adapt the number of threads of the running command.

    Returns None, and does not adapt it, where it is fixed by `number` or by OMP_NUM_THREADS.
    """
    import torch
    from joblib import cpu_count  # takes the CPU quota of the control group into account

    from bilm.runtime.process import at_end

    global _active
    at_end(stop)
    at_end(functools.partial(torch.set_num_threads, torch.get_num_threads()))
    if number is not None:
        torch.set_num_threads(number)
        return None
    if os.environ.get("OMP_NUM_THREADS"):
        return None
    _active = ThreadCount(max(1, min(cpu_count(), torch.get_num_threads())), torch.set_num_threads)
    _active.change_to(_active.most)
    return _active


def settle_for_training(have_same_gradients: Callable[[int, int], bool], is_short: bool) -> int | None:
    """Decide whether the number may change during a training run; return the number if it is fixed, else None.

    have_same_gradients: whether gradients with these two numbers of threads have the same bits. Beside a busy program
    this takes 20 seconds of the default language model, since two threads wait for each other. A short run that starts
    beside one keeps to one thread instead.
    """
    import torch

    number = torch.get_num_threads()
    if _active is None:
        return number
    few = MOST_WITH_SAME_GRADIENTS
    keeps_to_one = is_short and number == 1
    can_change = not _active.fixed and not keeps_to_one and number <= few <= _active.most
    if can_change and have_same_gradients(1, few):
        _active.most = few
        _active.change_to(number)
        return None
    _active.fix(number)
    return number


def keep_same_gradients() -> int | None:
    """For a resumed run whose number may change: use only numbers that give the same bits; return one the user set."""
    import torch

    if _active is None:
        return torch.get_num_threads()
    _active.most = min(_active.most, MOST_WITH_SAME_GRADIENTS)
    _active.change_to(min(_active.number, _active.most))
    return None


def fix(number: int) -> int:
    """Use the `number` of a run that is resumed, unless the user has set another one; return the number in use."""
    import torch

    if _active is not None:
        _active.fix(number)
    return torch.get_num_threads()


def stop() -> None:
    """Stop adapting the number."""
    global _active
    _active = None


def after_step(units: int = 0, seconds: float = 0.0) -> None:
    """See ThreadCount.after_step; without effect where no command has called `start`."""
    if _active is not None:
        _active.after_step(units, seconds)
