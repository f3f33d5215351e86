"""The number of threads adapts to the load of other programs, and does not change the results."""

import subprocess
import sys
import time
from contextlib import nullcontext

import joblib
import numpy as np
import psutil
import pytest
import torch

from bilm.config import BiLMConfig
from bilm.modules.language_model import BiLM
from bilm.runtime import threads
from bilm.runtime.provenance import first_difference
from bilm.runtime.threads import CpuUse, ThreadCount, cores_used_by_others
from bilm.text.batching import iterate_batches
from bilm.text.vocabulary import EncodedTexts, Lexicon
from bilm.training.loop import settle_threads
from bilm.training.optimizer import build_optimizer
from bilm.training.pretraining import PretrainingTask

CPU = torch.device("cpu")


class Machine:
    """A simulated machine with its own clock; other programs use `others` cores."""

    def __init__(self, cores: int, others: float = 0.0):
        self.cores, self.others = cores, others
        self.moment = self.used = 0.0
        self.set: list[int] = []

    def look(self) -> CpuUse:
        return CpuUse(self.moment, self.cores, self.used, 0.0)

    def pass_time(self, seconds: float) -> None:
        self.moment += seconds
        self.used += seconds * self.others

    def run(self, count: ThreadCount, seconds: float, pace: float = 1e-3) -> None:
        """Simulate steps of half a second at `pace` seconds per token."""
        for _ in range(round(2 * seconds)):
            self.pass_time(0.5)
            count.after_step(round(0.5 / pace), 0.5)


@pytest.fixture
def machine(monkeypatch):
    def make(cores: int, others: float = 0.0) -> tuple[Machine, ThreadCount]:
        machine = Machine(cores, others)
        monkeypatch.setattr(threads.time, "monotonic", lambda: machine.moment)
        monkeypatch.setattr(threads.time, "sleep", machine.pass_time)
        return machine, ThreadCount(cores, machine.set.append, machine.look)

    return make


@pytest.mark.parametrize(
    ("cores", "others", "number"), [(2, 0, 2), (2, 0.3, 2), (2, 1, 1), (2, 2, 1), (8, 0, 8), (8, 3, 5), (8, 12, 1)]
)
def test_as_many_threads_as_cores_are_free_at_the_start(machine, cores, others, number):
    _, count = machine(cores, others)
    assert count.choose() == number


def test_another_program_takes_a_thread_and_gives_it_back_after_a_quiet_minute(machine):
    simulated, count = machine(2)
    count.choose()
    simulated.others = 1.0
    simulated.run(count, 6)
    assert count.number == 1 and simulated.set == [2, 1]
    simulated.others = 0.0
    simulated.run(count, threads.QUIET_SECONDS - 5)
    assert count.number == 1, "not yet"
    simulated.run(count, 10)
    assert count.number == 2


def test_a_short_burst_of_another_program_changes_nothing(machine):
    simulated, count = machine(2)
    count.choose()
    simulated.run(count, 10)
    simulated.others = 1.0
    simulated.run(count, 1.5)
    simulated.others = 0.0
    simulated.run(count, 10)
    assert simulated.set == [2]


def test_a_step_that_takes_twice_as_long_gives_up_a_thread_whatever_the_system_reports(machine):
    """In a container or a virtual machine the load of other programs may be invisible."""
    simulated, count = machine(2)
    count.choose()
    simulated.run(count, 10)
    simulated.run(count, 3, pace=1.5e-3)
    assert count.number == 2
    simulated.run(count, 3, pace=3e-3)
    assert count.number == 1


@pytest.mark.parametrize(
    ("cores", "others", "same", "fixed", "most"),
    [
        (2, 0, True, None, 2),
        (2, 1, True, None, 2),
        (2, 0, False, 2, 2),
        (2, 1, False, 1, 2),
        (8, 0, True, 8, 8),
        (8, 6, True, None, 2),
        (1, 0, True, 1, 1),
    ],
)
def test_training_moves_only_between_numbers_with_the_same_gradients(
    machine, monkeypatch, cores, others, same, fixed, most
):
    simulated, count = machine(cores, others)
    count.choose()
    monkeypatch.setattr(threads, "_active", count)
    monkeypatch.setattr(torch, "get_num_threads", lambda: count.number)
    query = []
    assert threads.settle_for_training(lambda *numbers: bool(query.append(numbers)) or same, False) == fixed
    assert query in ([], [(1, 2)]) and count.most == most
    before, simulated.others = count.number, float(cores)
    simulated.run(count, 20)
    assert count.number == (before if fixed else 1)


@pytest.mark.parametrize(("others", "fixed"), [(0, None), (1, 1)])
def test_a_short_run_beside_another_program_compares_nothing(machine, monkeypatch, others, fixed):
    """With two threads this would take longer than the second thread can gain."""
    _, count = machine(2, others)
    count.choose()
    monkeypatch.setattr(threads, "_active", count)
    monkeypatch.setattr(torch, "get_num_threads", lambda: count.number)
    query = []
    assert threads.settle_for_training(lambda *numbers: bool(query.append(numbers)) or True, True) == fixed
    assert query == ([] if fixed else [(1, 2)]) and count.number == (fixed or 2)


@pytest.mark.parametrize(("cores", "number"), [(8, 2), (2, 2), (1, 1)])
def test_a_resumed_run_keeps_to_numbers_with_the_same_gradients(machine, monkeypatch, cores, number):
    _, count = machine(cores, 0)
    count.choose()
    monkeypatch.setattr(threads, "_active", count)
    assert threads.keep_same_gradients() is None and (count.number, count.most) == (number, number)
    monkeypatch.setattr(threads, "_active", None)  # the user has set the number
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert threads.keep_same_gradients() == 3


def test_what_others_use_is_all_but_ones_own():
    before, after = CpuUse(10.0, 4, 100.0, 5.0), CpuUse(12.0, 4, 105.0, 8.0)
    assert cores_used_by_others(before, after) == pytest.approx(1.0)
    assert cores_used_by_others(before, CpuUse(12.0, 4, 101.0, 8.0)) == 0.0


def test_a_busy_program_is_seen():
    """With the real counters: a process in an endless loop uses about one core."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = CpuUse.now()
        time.sleep(1.0)
        used = cores_used_by_others(before, CpuUse.now())
    finally:
        busy.kill()
        busy.wait()
    assert used > 0.25


def random_texts(count: int) -> EncodedTexts:
    random = np.random.default_rng(0)
    # Short ones: beside other programs, two threads wait for each other at each token.
    lengths = random.integers(5, 16, count)
    offsets = np.concatenate([[0], lengths.cumsum()])
    ids = random.integers(4, 9000, offsets[-1]).astype(np.int32)
    return EncodedTexts(ids, offsets, Lexicon([str(i) for i in range(9000)]))


def weights_after(numbers: list[int]) -> list[torch.Tensor]:
    """Train a language model of default size, one step with each of these numbers of threads; return its weights."""
    torch.manual_seed(0)
    texts, rows = random_texts(200), np.arange(200)
    model, task = BiLM(BiLMConfig(), 9000), PretrainingTask(texts, rows, rows, 2048, 0, CPU)
    optimizer = build_optimizer([(model, 1e-2)], 0.01)
    for number, item in zip(numbers, task.plan(0), strict=False):
        torch.set_num_threads(number)
        loss, count, _ = task.loss(model.train(), item, 0, 1)
        (loss / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach() for parameter in model.parameters()]


def test_the_default_language_model_has_the_same_weights_if_the_number_changes_between_one_and_two():
    """Where it has not, as on a machine with other kernels, a run detects it and fixes the number."""
    number = torch.get_num_threads()
    try:
        one, mixed = weights_after([1]), weights_after([2])
        torch.manual_seed(0)
        texts, rows = random_texts(200), np.arange(200)
        task = PretrainingTask(texts, rows, rows, 2048, 0, CPU)
        count = ThreadCount(2, torch.set_num_threads)
        threads._active, before = count, threads._active
        fixed = settle_threads(BiLM(BiLMConfig(), 9000), task, nullcontext, 1)
    finally:
        threads._active = before
        torch.set_num_threads(number)
    assert all(torch.equal(a, b) for a, b in zip(one, mixed, strict=True)) or fixed is not None


def test_a_run_whose_gradients_depend_on_the_number_notices_it(monkeypatch):
    monkeypatch.setattr(threads, "_active", ThreadCount(2, torch.set_num_threads))
    number = torch.get_num_threads()

    class ThreadDependent(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) * torch.get_num_threads()

    class Task:
        def plan(self, epoch):
            return [1, 2, 3]

        def loss(self, model, item, rank, size):
            return model(torch.ones(1, 3)).sum(), 1, 1

    try:
        torch.set_num_threads(2)
        assert settle_threads(ThreadDependent(3, 1), Task(), nullcontext, 1) == 2
        torch.set_num_threads(2)
        monkeypatch.setattr(threads, "_active", ThreadCount(2, torch.set_num_threads))
        model, state = torch.nn.Linear(3, 1), torch.get_rng_state()
        assert settle_threads(model, Task(), nullcontext, 1) is None
        assert torch.get_num_threads() == 2 and torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_num_threads(number)


def test_forward_passes_do_not_depend_on_the_number():
    number = torch.get_num_threads()
    torch.manual_seed(0)
    texts, model = random_texts(60), BiLM(BiLMConfig(), 9000).eval()
    batch = next(iterate_batches(texts, np.arange(len(texts)), 2048))
    result = []
    try:
        for count in (1, 2, 3, 4, 8):
            torch.set_num_threads(count)
            with torch.no_grad():
                result.append([*model.encode(batch), model(batch)])
    finally:
        torch.set_num_threads(number)
    for other in result[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result[0], other, strict=True))


def test_a_resumed_run_goes_on_with_the_number_it_was_begun_with(monkeypatch):
    assert first_difference({"seed": 0, "threads": 8}, {"seed": 0, "threads": 4}) is None
    assert first_difference({"seed": 0}, {"seed": 0, "threads": 4}) is None
    assert first_difference({"seed": 0, "start": "x"}, {"seed": 0}) == "start"
    changed: list[int] = []
    monkeypatch.setattr(threads, "_active", ThreadCount(4, changed.append, lambda: CpuUse(0.0, 4, 0.0, 0.0)))
    threads.fix(3)
    threads.after_step(100, 100.0)
    assert changed == [3]


def test_a_number_that_is_said_wins(monkeypatch):
    number = torch.get_num_threads()
    try:
        assert threads.start(1) is None and torch.get_num_threads() == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        assert threads.start(None) is None
    finally:
        torch.set_num_threads(number)


def test_a_quota_of_the_container_holds_for_inference_too(monkeypatch):
    """Of 64 cores a container may have 2: threads for the others would wait for each other by spinning."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    chosen = []
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    try:
        assert threads.start(None).most == 2 and chosen == [2]
    finally:
        threads.stop()


def test_cores_that_a_container_numbers_anew_are_not_lost(monkeypatch):
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: [900, 901])
    assert CpuUse.now().cores == len(psutil.cpu_times(percpu=True))
