"""The number of threads: fitted to what other programs leave, and without a mark on what is computed."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from bilm import threads
from bilm.classifier import ClassifiedEncoder, Classifier
from bilm.config import BiLMConfig, ClassifierConfig
from bilm.downstream import ClassificationTask
from bilm.language_model import BiLM
from bilm.lexicon import Lexicon
from bilm.optimizer import build_optimizer
from bilm.pretraining import PretrainingTask
from bilm.threads import CpuUse, ThreadCount, cores_used_by_others
from bilm.vocabulary import EncodedTexts

CPU = torch.device("cpu")


class Machine:
    """A machine with a clock of its own: `others` cores are busy with other programs."""

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
        """Steps of half a second, each token taking `pace` seconds."""
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
    here, count = machine(2)
    count.choose()
    here.others = 1.0
    here.run(count, 6)
    assert count.number == 1 and here.set == [2, 1]
    here.others = 0.0
    here.run(count, threads.QUIET_SECONDS - 5)
    assert count.number == 1, "not yet"
    here.run(count, 10)
    assert count.number == 2


def test_a_short_burst_of_another_program_changes_nothing(machine):
    here, count = machine(2)
    count.choose()
    here.run(count, 10)
    here.others = 1.0
    here.run(count, 1.5)
    here.others = 0.0
    here.run(count, 10)
    assert here.set == [2]


def test_a_step_that_takes_twice_as_long_gives_up_a_thread_whatever_the_system_reports(machine):
    """In a container or a virtual machine the load of others may not be seen."""
    here, count = machine(2)
    count.choose()
    here.run(count, 10)
    here.run(count, 3, pace=1.5e-3)
    assert count.number == 2
    here.run(count, 3, pace=3e-3)
    assert count.number == 1


def test_training_keeps_to_numbers_with_the_same_gradients(machine):
    _, few = machine(8, 6.5)
    assert few.choose() == 2
    few.restrict_to_training()
    assert few.most == 2 and not few.fixed
    here, many = machine(8)
    many.choose()
    many.restrict_to_training()
    here.others = 8.0
    here.run(many, 20)
    assert many.fixed and here.set == [8]


def test_what_others_use_is_all_but_ones_own():
    before, after = CpuUse(10.0, 4, 100.0, 5.0), CpuUse(12.0, 4, 105.0, 8.0)
    assert cores_used_by_others(before, after) == pytest.approx(1.0)
    assert cores_used_by_others(before, CpuUse(12.0, 4, 101.0, 8.0)) == 0.0


def test_a_busy_program_is_seen():
    """The real counters: a process that computes, and does nothing else, uses about a core."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = CpuUse.now()
        busy_before = os.times()
        threads.time.sleep(1.0)
        used = cores_used_by_others(before, CpuUse.now())
    finally:
        busy.kill()
        busy.wait()
    assert busy_before and used > 0.25


def random_texts(count: int) -> EncodedTexts:
    random = np.random.default_rng(0)
    lengths = random.integers(10, 60, count)
    offsets = np.concatenate([[0], lengths.cumsum()])
    ids = random.integers(4, 9000, offsets[-1]).astype(np.int32)
    return EncodedTexts(ids, offsets, Lexicon([str(i) for i in range(9000)]))


def weights_after(numbers: list[int], finetuned: bool | None) -> list[torch.Tensor]:
    """Weights after a step with each of these numbers of threads: of a language model, or of a classifier on it."""
    torch.manual_seed(0)
    texts, rows = random_texts(200), np.arange(200)
    model: torch.nn.Module = BiLM(BiLMConfig(), 9000)
    task: PretrainingTask | ClassificationTask = PretrainingTask(texts, rows, rows, 2048, 0, CPU)
    if finetuned is not None:
        classifier = Classifier(ClassifierConfig(), "trainable", model, 4, seed=0)
        model = ClassifiedEncoder(model, classifier, finetuned)
        task = ClassificationTask("", texts, rows % 4, rows, rows, 2048, 0, CPU)
    optimizer = build_optimizer([(model, 1e-2)], 0.01)
    plan = task.plan(0)
    for number, item in zip(numbers, plan, strict=False):
        torch.set_num_threads(number)
        loss, count, _ = task.loss(model.train(), item, 0, 1)
        (loss / count).backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("finetuned", [None, False, True], ids=["language model", "classifier", "finetuned"])
def test_weights_do_not_depend_on_a_number_that_changes_between_one_and_two(finetuned):
    """Sizes of the default model: small ones are not split among threads at all."""
    number = torch.get_num_threads()
    try:
        one, mixed = weights_after([1, 1, 1], finetuned), weights_after([2, 1, 2], finetuned)
    finally:
        torch.set_num_threads(number)
    assert threads.SAME_GRADIENTS == 2
    assert all(torch.equal(a, b) for a, b in zip(one, mixed, strict=True))


def test_forward_passes_do_not_depend_on_the_number():
    number = torch.get_num_threads()
    torch.manual_seed(0)
    texts, model = random_texts(60), BiLM(BiLMConfig(), 9000).eval()
    found = []
    try:
        for count in (1, 2, 3, 4, 8):
            torch.set_num_threads(count)
            batch = next(iter(threads_batches(texts)))
            with torch.no_grad():
                found.append([*model.encode(batch), model(batch)])
    finally:
        torch.set_num_threads(number)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def threads_batches(texts: EncodedTexts):
    from bilm.batching import iterate_batches

    return iterate_batches(texts, np.arange(len(texts)), 2048)


def test_a_resumed_run_goes_on_with_the_number_it_was_begun_with(monkeypatch):
    from bilm.provenance import first_difference

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
