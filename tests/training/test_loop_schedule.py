"""When the loop does what: learning rates, figures, checkpoints and time, with a clock that the task moves."""

import math
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bilm.checkpoints import serialization
from bilm.config import FitConfig
from bilm.runtime.errors import UserError
from bilm.training import loop
from bilm.training.loop import fit
from bilm.training.state import State


class Clocked:
    """Three steps an epoch of 2 seconds each, and a validation of 5; one weight, whose gradient is 1 or broken."""

    label, unit, better_is = "clocked", "rows", ("error", "lower")

    def __init__(self, monkeypatch, figures=(), batches=3, broken_at=(), on_step=lambda: None):
        self.seconds = 100.0
        self.figures, self.batches, self.broken_at, self.on_step = iter(figures), batches, broken_at, on_step
        self.model = nn.ModuleList([nn.Linear(1, 1, bias=False)])
        self.optimizer = torch.optim.SGD([{"params": [*self.model.parameters()], "peak": 0.4}], lr=9.0, fused=True)
        self.rates: list[float] = []
        self.modes: list[tuple[str, bool]] = []
        monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: self.seconds))

    def plan(self, epoch):
        return [*range(self.batches)]

    def loss(self, model, item, rank, world_size):
        self.seconds += 2
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        self.modes.append(("train", model.training))
        self.on_step()
        weight = model[0].weight.sum()
        loss = 4 * (weight - weight.detach()) + 8.0 + item
        return loss * (math.nan if len(self.rates) in self.broken_at else 1.0), 4, 4

    def validate(self, model):
        self.seconds += 5
        self.modes.append(("validate", model.training or torch.is_grad_enabled()))
        return {"error": next(self.figures, 1.0)}

    def fit(
        self,
        path,
        *,
        epochs=2,
        warmup=0.0,
        checkpoint_seconds=1e9,
        resume=False,
        record=None,
        settings=None,
        describe=None,
    ):
        return fit(
            self.model,
            self,
            self.optimizer,
            FitConfig(
                epochs=epochs, learning_rate=0.4, warmup=warmup, clip_norm=9.0, checkpoint_seconds=checkpoint_seconds
            ),
            checkpoint_path=path,
            settings={} if settings is None else settings,
            autocast=lambda: torch.autocast("cpu", enabled=False),
            resume=resume,
            log=record,
            describe_duration=describe,
        )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pt"


@pytest.fixture
def saves(monkeypatch) -> list[dict]:
    """The state in each checkpoint that is written."""
    states, save = [], serialization.save

    def recording(path, kind, content):
        states.append(content["state"])
        save(path, kind, content)

    monkeypatch.setattr(serialization, "save", recording)
    return states


def test_the_learning_rate_is_that_of_the_middle_of_each_step(monkeypatch, path):
    """Two epochs of three steps: a rise over the first quarter of the run, then half a cosine."""
    task = Clocked(monkeypatch)
    task.fit(path, warmup=0.25)
    expected = []
    for step in range(6):
        done = (step + 0.5) / 6
        factor = done / 0.25 if done < 0.25 else (1 + math.cos(math.pi * (done - 0.25) / 0.75)) / 2
        expected.append(0.4 * factor)
    assert task.rates == pytest.approx(expected)


def test_steps_are_in_training_mode_and_validation_in_evaluation_mode_without_gradients(monkeypatch, path):
    task = Clocked(monkeypatch)
    task.fit(path)
    assert task.modes == [*[("train", True)] * 3, ("validate", False)] * 2


def test_a_step_is_the_rate_times_the_mean_gradient(monkeypatch, path):
    """The sum over four targets has a gradient of 4, their mean one of 1."""
    task = Clocked(monkeypatch)
    before = task.model[0].weight.item()
    state = task.fit(path, epochs=1)
    best = task.model[0].weight.item()
    assert before - best == pytest.approx(sum(task.rates), rel=1e-5)
    assert state.largest_norm == 0.0 and state.epochs[0]["largest_gradient_norm"] == pytest.approx(1.0)
    assert state.epochs[0]["train_loss"] == pytest.approx((8 + 9 + 10) / 12)


@pytest.mark.parametrize(
    ("direction", "figures", "best"),
    [
        ("lower", [2.0, 1.0, 1.0], 1),
        ("higher", [1.0, 2.0, 2.0], 1),
        ("lower", [1.0, 1.0, 3.0], 0),
        ("lower", [-1.0, -2.0, -1.5], 1),
    ],
)
def test_of_equal_epochs_the_first_is_the_best(monkeypatch, path, direction, figures, best):
    task = Clocked(monkeypatch, figures)
    task.better_is = ("error", direction)
    state = task.fit(path, epochs=3)
    assert (state.best_epoch, state.best_figure) == (best, figures[best])


def test_the_history_of_a_run(monkeypatch, path):
    state = Clocked(monkeypatch, [3.0, 2.0]).fit(path)
    assert [epoch["epoch"] for epoch in state.epochs] == [1, 2]
    assert [epoch["error"] for epoch in state.epochs] == [3.0, 2.0]
    assert [epoch["steps_left_out"] for epoch in state.epochs] == [0, 0]
    assert (state.epoch, state.batch, state.step) == (2, 0, 6)


def test_seconds_are_those_of_all_steps_and_validations(monkeypatch, path):
    state = Clocked(monkeypatch).fit(path)
    assert [epoch["seconds"] for epoch in state.epochs] == [11.0, 22.0] and state.seconds == 22.0


def test_a_resumed_run_counts_the_seconds_of_both_sessions_and_not_the_break(monkeypatch, path):
    Clocked(monkeypatch).fit(path)
    content = serialization.load(path, "training")
    task = Clocked(monkeypatch)
    task.seconds = 5000.0
    content["state"] |= {"epoch": 1, "epochs": content["state"]["epochs"][:1], "seconds": 11.0}
    serialization.save(path, "training", content)
    state = task.fit(path, resume=True)
    assert [epoch["seconds"] for epoch in state.epochs] == [11.0, 22.0]


def test_the_duration_is_estimated_once_when_twenty_seconds_have_been_measured(monkeypatch, path, capsys):
    """Steps of 2 s: the tenth of 40 in the first of three epochs, so that 2.75 epochs of 80 s remain."""
    calls = []
    describe = lambda *figures: calls.append(figures) or "It takes a while."  # noqa: E731
    Clocked(monkeypatch, batches=40).fit(path, epochs=3, describe=describe)
    assert calls == [(80.0, 2.75)]
    assert capsys.readouterr().err.count("It takes a while.\n") == 1


def test_a_checkpoint_is_written_when_its_time_has_come_and_at_the_end_of_an_epoch(monkeypatch, path, saves):
    """Steps of 2 s, checkpoints every 4: after steps 2, 4 and 6 of seven; a validation of 5 s; and so again."""
    Clocked(monkeypatch, batches=7).fit(path, checkpoint_seconds=4.0)
    assert [(state["epoch"], state["batch"]) for state in saves] == [
        *[(0, 2), (0, 4), (0, 6), (1, 0)],
        *[(1, 2), (1, 4), (1, 6), (2, 0)],
    ]
    assert [state["step"] for state in saves] == [2, 4, 6, 7, 9, 11, 13, 14]
    assert [state["seconds"] for state in saves] == [4, 8, 12, 19, 23, 27, 31, 38]


def test_a_checkpoint_of_the_middle_has_the_sums_of_its_epoch(monkeypatch, path, saves):
    Clocked(monkeypatch, batches=7).fit(path, epochs=1, checkpoint_seconds=4.0)
    assert saves[1]["loss_sum"] == 8 + 9 + 10 + 11 and saves[1]["loss_count"] == 16
    assert saves[1]["largest_norm"] == pytest.approx(1.0)
    assert (saves[-1]["loss_sum"], saves[-1]["loss_count"], saves[-1]["largest_norm"]) == (0.0, 0, 0.0)


def test_the_curve_has_a_point_every_25_steps_and_at_the_end_of_an_epoch(monkeypatch, path):
    """The loss is the mean of the epoch so far."""
    points = []

    class Log:
        def __init__(self, step):
            assert step == 0

        def __enter__(self):
            return lambda step, figures: points.append((step, dict(figures)))

        def __exit__(self, *_):
            points.append("closed")

    task = Clocked(monkeypatch, batches=60)
    state = task.fit(path, record=Log)
    assert [point["step"] for point in state.curve] == [25, 50, 60, 75, 100, 120]
    loss = lambda steps: pytest.approx(8 / 4 + (steps - 1) / 2 / 4)  # noqa: E731
    assert [point["loss"] for point in state.curve] == [loss(n) for n in (25, 50, 60, 15, 40, 60)]
    assert all(point["gradient_norm"] == pytest.approx(1.0) for point in state.curve)
    assert points.pop() == "closed"
    training = [(step, figures) for step, figures in points if "training/loss" in figures]
    assert [step for step, _ in training] == [point["step"] for point in state.curve]
    assert [figures["training/learning_rate"] for _, figures in training] == [task.rates[s - 1] for s, _ in training]
    assert [figures["training/loss"] for _, figures in training] == [point["loss"] for point in state.curve]
    assert [p for p in points if p not in training] == [
        (60, {"validation/error": 1.0}),
        (120, {"validation/error": 1.0}),
    ]


def test_nine_bad_steps_in_a_row_are_skipped_and_ten_stop_the_run(monkeypatch, path):
    state = Clocked(monkeypatch, batches=12, broken_at=range(2, 11)).fit(path, epochs=1)
    assert state.longest_row == 9 and state.left_out_in_a_row == 0 and state.epochs[0]["steps_left_out"] == 9
    assert state.epochs[0]["train_loss"] == pytest.approx((8 + 18 + 19) / 12)
    with pytest.raises(UserError, match="in 10 steps in a row, at step 12"):
        Clocked(monkeypatch, batches=12, broken_at=range(2, 12)).fit(path, epochs=1)


def test_every_count_of_a_run_begins_at_zero(monkeypatch, path):
    """So that nine bad steps at its start are nine; and no epoch is the best one yet."""
    state = asdict(State())
    assert state.pop("best_epoch") == -1 and math.isnan(state.pop("best_figure"))
    assert all(not value for value in state.values())
    state = Clocked(monkeypatch, batches=12, broken_at=range(1, 10)).fit(path, epochs=1)
    assert state.longest_row == 9 and state.epochs[0]["train_loss"] == pytest.approx((17 + 18 + 19) / 12)


def test_rows_of_bad_steps_with_a_good_one_between_them_are_two_rows(monkeypatch, path):
    state = Clocked(monkeypatch, batches=14, broken_at=[*range(2, 8), *range(9, 13)]).fit(path, epochs=1)
    assert state.longest_row == 6 and state.epochs[0]["steps_left_out"] == 10


def test_a_last_step_without_a_finite_gradient_has_no_norm_in_the_curve(monkeypatch, path):
    state = Clocked(monkeypatch, broken_at=[3]).fit(path, epochs=1)
    assert state.curve == [{"step": 3, "loss": pytest.approx(17 / 8), "gradient_norm": None}]


# --- threads: tried on three batches before the first step ----------------------------------------------------------


@pytest.fixture
def settled(monkeypatch):
    """Whether one and three threads gave the same gradients, as the loop answered; then three threads are fixed."""
    answers = []

    def settle(have_same_gradients, is_short):
        answers.append(have_same_gradients(1, 3))
        return None if answers[-1] else 3

    monkeypatch.setattr(loop.threads, "settle_for_training", settle)
    return answers


class Threaded(Clocked):
    """Items that are asked for before the first step, and gradients that may depend on the number of threads."""

    def __init__(self, monkeypatch, differs_at=None, batches=5):
        super().__init__(monkeypatch, batches=batches)
        self.model.append(nn.Linear(1, 1))  # has no part in the loss: its gradient is None
        self.differs_at = differs_at
        self.trials = []

    def loss(self, model, item, rank, world_size):
        assert (rank, world_size) == (0, 1) and model.training
        number = torch.get_num_threads()
        self.trials.append((item, number, float(torch.rand(()))))
        loss, *counts = super().loss(model, item, rank, world_size)
        return loss * (number if item == self.differs_at else 1), *counts


@pytest.mark.parametrize("differs_at", [None, 0, 2, 4])
def test_gradients_are_compared_on_the_first_the_middle_and_the_last_batch(monkeypatch, path, settled, differs_at):
    task, before = Threaded(monkeypatch, differs_at), torch.get_num_threads()
    random = torch.get_rng_state()
    number = loop.settle_threads(task.model, task, lambda: torch.autocast("cpu", enabled=False), 1)
    assert settled == [differs_at is None] and number == (None if differs_at is None else 3)
    tried = [item for item, *_ in task.trials]
    assert sorted({*tried}) == [i for i in (0, 2, 4) if differs_at is None or i <= differs_at]
    for (one, one_threads, one_draw), (other, other_threads, other_draw) in zip(
        task.trials[::2], task.trials[1::2], strict=True
    ):
        assert one == other and (one_threads, other_threads) == (1, 3) and one_draw == other_draw
    assert torch.get_num_threads() == before and torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in task.model.parameters())


@pytest.mark.parametrize("differs_at", [None, 2])
def test_a_fixed_number_of_threads_is_a_setting_of_the_run(monkeypatch, path, settled, differs_at):
    settings = {"width": 3}
    Threaded(monkeypatch, differs_at).fit(path, epochs=1, settings=settings)
    assert settings == ({"width": 3} if differs_at is None else {"width": 3, "threads": 3})
    assert serialization.load(path, "training")["settings"] == settings


def test_a_resumed_run_has_the_threads_of_its_checkpoint_and_tries_nothing(monkeypatch, path, settled):
    fixed = []
    monkeypatch.setattr(loop.threads, "fix", lambda number: fixed.append(number) or 7)
    Threaded(monkeypatch, 2).fit(path, epochs=1, settings={})
    settings = {}
    Threaded(monkeypatch, 2).fit(path, epochs=1, settings=settings, resume=True)
    assert len(settled) == 1 and fixed == [3] and settings == {"threads": 7}


def test_a_run_with_fixed_weights_can_be_resumed(monkeypatch, path):
    """They are not in its checkpoint."""
    results = []
    for resume in (False, True):
        task = Clocked(monkeypatch, [2.0, 1.0])
        task.model.append(nn.Linear(1, 1).requires_grad_(False))
        state = task.fit(path, resume=resume)
        results.append((task.model[0].weight.item(), state.best_epoch, len(state.epochs)))
    assert results[0] == results[1]


def test_steps_that_are_skipped_are_told_of_once_each_time_and_good_ones_not(monkeypatch, path, capsys):
    Clocked(monkeypatch).fit(path)
    assert "skipped" not in "".join(capsys.readouterr())
    Clocked(monkeypatch, batches=60, broken_at=[3, 4, 30]).fit(path, epochs=1)
    text = capsys.readouterr()
    assert text.err.count("steps skipped until step") == 2
    assert "until step 25: 2;" in text.err and "until step 50: 1;" in text.err and "steps skipped: 3 (" in text.out


def test_seconds_of_the_history_have_one_decimal(monkeypatch, path):
    task = Clocked(monkeypatch)
    task.on_step = lambda: setattr(task, "seconds", task.seconds + 0.13)
    state = task.fit(path)
    assert [epoch["seconds"] for epoch in state.epochs] == [11.4, 22.8] and state.seconds == pytest.approx(22.78)


class OtherRank(loop.Ranks):
    """A rank that is not the main one."""

    def __init__(self):
        super().__init__()
        self.rank = 1


def test_a_rank_that_the_checkpoint_lacks_has_a_random_state_of_its_own(monkeypatch, path):
    Clocked(monkeypatch).fit(path)
    for ranks, is_restored in ((OtherRank, False), (loop.Ranks, True)):
        monkeypatch.setattr(loop, "Ranks", ranks)
        task = Clocked(monkeypatch)
        torch.manual_seed(77)
        before = torch.get_rng_state()
        task.fit(path, resume=True)
        assert torch.equal(torch.get_rng_state(), before) != is_restored


def test_other_ranks_say_nothing_and_begin_no_checkpoint(monkeypatch, path, saves, capsys):
    """Those at the end of an epoch are written together with the main one."""
    monkeypatch.setattr(loop, "Ranks", OtherRank)
    state = Clocked(monkeypatch, batches=7, broken_at=[2]).fit(path, checkpoint_seconds=0.0)
    assert [epoch["train_loss"] for epoch in state.epochs] == pytest.approx([68 / 24, 77 / 28])
    Clocked(monkeypatch).fit(path, resume=True)
    assert [state["batch"] for state in saves] == [0, 0]
    assert "".join(capsys.readouterr()) == ""


class TwoRanks(loop.Ranks):
    """The main one of two, which have the same rows."""

    def __init__(self):
        self.rank, self.size, self.is_first_here = 0, 2, True

    def sum(self, *values):
        return [type(value)(2 * value) for value in values]

    def gather(self, value):
        return [value, value]

    def on_main(self, function):
        return function()


class Averaging(nn.Module):
    """In place of DistributedDataParallel: the average of two equal gradients is either."""

    def __init__(self, module):
        super().__init__()
        self.parts = module

    def __getitem__(self, index):
        return self.parts[index]


def test_two_ranks_with_the_same_rows_step_as_one(monkeypatch, path):
    """The gradient is that of the mean over the rows of both."""
    alone = Clocked(monkeypatch)
    torch.nn.init.ones_(alone.model[0].weight)
    expected = alone.fit(path)
    seen = []
    monkeypatch.setattr(loop, "Ranks", TwoRanks)
    monkeypatch.setattr(
        loop.nn.parallel, "DistributedDataParallel", lambda model: seen.append(Averaging(model)) or seen[-1]
    )
    task = Clocked(monkeypatch)
    torch.nn.init.ones_(task.model[0].weight)
    models, loss = [], task.loss
    task.loss = lambda model, item, rank, size: models.append((model, rank, size)) or loss(model, item, rank, size)
    state = task.fit(path)
    assert len(seen) == 1 and models == [(seen[0], 0, 2)] * 6
    torch.testing.assert_close(task.model[0].weight, alone.model[0].weight)
    for one, other in zip(state.epochs, expected.epochs, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"])
        assert one["largest_gradient_norm"] == pytest.approx(other["largest_gradient_norm"])


def test_the_progress_bar_has_the_loss_and_the_rows_per_second(monkeypatch, path):
    """Four rows in the 2 seconds of a step."""
    texts = []

    class Bar:
        def __init__(self, **options):
            texts.append((options["initial"], options["total"]))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self):
            pass

        def set_postfix_str(self, text, refresh):
            texts.append(text)

    monkeypatch.setattr(loop, "progress", Bar)
    Clocked(monkeypatch).fit(path)
    assert texts == [(0, 3), "loss 2.250, 2 rows/s"] * 2
