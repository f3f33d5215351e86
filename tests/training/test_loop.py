"""The training loop, on a task without text."""

import math
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from bilm.checkpoints import serialization
from bilm.config import FitConfig
from bilm.runtime.distributed import Ranks
from bilm.runtime.errors import Interrupted, UserError
from bilm.training.loop import fit
from bilm.training.optimizer import build_optimizer, schedule

CONFIG = FitConfig(epochs=3, learning_rate=0.05, clip_norm=1.0, checkpoint_seconds=1e9)


class Regression:
    """y = 2 x0 - x1 from batches of unequal size; validation figures can be dictated."""

    label, unit, better_is = "regression", "rows", ("error", "lower")

    def __init__(self, dictated: list[float] | None = None, broken_at: Sequence[int] = (), broken: str = "loss"):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(30, 2, generator=generator)
        self.y = self.x @ torch.tensor([2.0, -1.0])
        self.dictated = dictated
        self.broken_at = broken_at
        self.broken = broken
        self.steps = 0
        self.seen: list[torch.Tensor] = []

    def plan(self, epoch):
        order = torch.randperm(30, generator=torch.Generator().manual_seed(epoch))
        return [order[:7], order[7:20], order[20:]]

    def loss(self, model, item, rank, world_size):
        self.steps += 1
        error = (model(self.x[item]).squeeze(1) - self.y[item]).square().sum()
        if self.steps in self.broken_at:
            if self.broken == "gradient":
                error.register_hook(lambda gradient: gradient * math.inf)
            else:
                error = error * {"loss": math.nan, "large": 1e6}[self.broken]
        return error, len(item), len(item)

    def validate(self, model):
        self.seen.append(model[0].weight.detach().clone())
        if self.dictated:
            return {"error": self.dictated[len(self.seen) - 1]}
        return {"error": float((model(self.x).squeeze(1) - self.y).square().mean())}


def build() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.1))


def run(task, path, model=None, config=CONFIG, resume=False, settings=None):
    model = model or build()
    optimizer = build_optimizer([(model, config.learning_rate)], config.weight_decay)
    autocast = lambda: torch.autocast("cpu", enabled=False)  # noqa: E731
    state = fit(
        model, task, optimizer, config, checkpoint_path=path, settings=settings or {}, autocast=autocast, resume=resume
    )
    return model, state


def test_schedule_rises_then_falls_to_nothing():
    assert schedule(0.0, 0.1) == 0.0
    assert schedule(0.05, 0.1) == pytest.approx(0.5)
    assert schedule(0.1, 0.1) == pytest.approx(1.0)
    assert schedule(0.55, 0.1) == pytest.approx(0.5)
    assert schedule(1.0, 0.1) == pytest.approx(0.0)


def test_only_matrices_decay_and_each_module_has_its_rate():
    one, two = nn.Linear(3, 2), nn.Linear(2, 2)
    two.weight.requires_grad_(False)
    groups = build_optimizer([(one, 0.1), (two, 0.01)], 0.5).param_groups
    assert [(g["peak"], g["weight_decay"], [tuple(p.shape) for p in g["params"]]) for g in groups] == [
        (0.1, 0.5, [(2, 3)]),
        (0.1, 0.0, [(2,)]),
        (0.01, 0.0, [(2,)]),
    ]


def test_one_step_is_that_of_adamw_on_the_mean_loss(tmp_path):
    """The first step by hand: mean over the batch, clipping, warm-up, AdamW."""
    task, config = Regression(), FitConfig(epochs=1, learning_rate=0.05, warmup=0.5, clip_norm=0.1, weight_decay=0.3)
    task.plan = lambda epoch: [torch.arange(30)]
    by_hand, trained = nn.Sequential(nn.Linear(2, 1)), nn.Sequential(nn.Linear(2, 1))
    trained.load_state_dict(by_hand.state_dict())
    run(task, tmp_path / "c.pt", trained, config)
    loss = (by_hand(task.x).squeeze(1) - task.y).square().mean()
    loss.backward()
    nn.utils.clip_grad_norm_(by_hand.parameters(), 0.1)
    rate = 0.05 * schedule(0.5, 0.5)
    torch.optim.AdamW(
        [{"params": [by_hand[0].weight], "weight_decay": 0.3}, {"params": [by_hand[0].bias], "weight_decay": 0.0}],
        lr=rate,
    ).step()
    torch.testing.assert_close(trained[0].weight, by_hand[0].weight)
    torch.testing.assert_close(trained[0].bias, by_hand[0].bias)


def test_loss_is_a_mean_over_rows_not_over_batches(tmp_path):
    task, config = Regression(), FitConfig(epochs=1, learning_rate=0.0, checkpoint_seconds=1e9)
    model, state = run(task, tmp_path / "c.pt", nn.Sequential(nn.Linear(2, 1)), config)
    assert state.epochs[0]["train_loss"] == pytest.approx(task.validate(model.requires_grad_(False))["error"], rel=1e-5)


@pytest.mark.parametrize(
    ("direction", "figures", "best"), [("lower", [3.0, 1.0, 2.0], 1), ("higher", [3.0, 1.0, 2.0], 0)]
)
def test_the_best_epoch_is_kept(tmp_path, direction, figures, best):
    task = Regression(dictated=figures)
    task.better_is = ("error", direction)
    model, state = run(task, tmp_path / "c.pt")
    assert state.best_epoch == best and state.best_figure == figures[best]
    assert torch.equal(model[0].weight, task.seen[best])


def test_a_resumed_run_equals_one_that_was_not_stopped(tmp_path):
    """From a checkpoint after each step of three epochs, resumed in new objects: the same bits, the same history."""
    complete, expected = run(Regression(), tmp_path / "whole.pt")
    copies = []

    class ProgressFile(Regression):
        def loss(self, *arguments):
            if (path := tmp_path / "each.pt").exists():
                copies.append(tmp_path / f"copy{len(copies)}.pt")
                copies[-1].write_bytes(path.read_bytes())
            return super().loss(*arguments)

    run(ProgressFile(), tmp_path / "each.pt", config=FitConfig(epochs=3, learning_rate=0.05, checkpoint_seconds=0.0))
    assert len(copies) == 8
    for copy in copies:
        torch.manual_seed(99)
        model, state = run(Regression(), copy, nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.1)), resume=True)
        assert torch.equal(model[0].weight, complete[0].weight) and torch.equal(model[0].bias, complete[0].bias)
        strip = lambda epochs: [{k: v for k, v in e.items() if k != "seconds"} for e in epochs]  # noqa: E731
        assert strip(state.epochs) == strip(expected.epochs) and state.curve == expected.curve


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    run(Regression(), tmp_path / "c.pt", settings={"width": 3})
    with pytest.raises(UserError, match=r"other settings \(width: 3, now 4\)"):
        run(Regression(), tmp_path / "c.pt", settings={"width": 4}, resume=True)


def watched(task, model):
    """Returns a list to which the weights are added before each step."""
    weights, loss = [], task.loss

    def watching(*arguments):
        weights.append(model[0].weight.detach().clone())
        return loss(*arguments)

    task.loss = watching
    return weights


@pytest.mark.parametrize("part", ["loss", "gradient"])
def test_a_step_without_a_finite_gradient_changes_nothing_and_is_said(tmp_path, capsys, part):
    task, model, path = Regression(broken_at=[5], broken=part), build(), tmp_path / "c.pt"
    weights = watched(task, model)
    _, state = run(task, path, model)
    moved = [not torch.equal(a, b) for a, b in pairwise(weights)]
    assert moved == [True] * 4 + [False] + [True] * 3
    saved = serialization.load(path, "training")
    assert [int(entry["step"]) for entry in saved["optimizer"]["state"].values()] == [8, 8]
    assert state.step == 9 and [epoch["steps_left_out"] for epoch in state.epochs] == [0, 1, 0]
    # The loss is a mean over the rows of the other steps.
    assert all(math.isfinite(epoch["train_loss"]) for epoch in state.epochs)
    text = capsys.readouterr()
    assert re.search(r"steps skipped until step 6: 1; .*\(learning rate 0\.0\d+\)", text.err)
    assert "steps skipped: 1 (" in text.out


def test_a_skipped_step_is_remembered_across_a_stop_and_never_the_last_of_a_checkpoint(tmp_path):
    every_step = replace(CONFIG, checkpoint_seconds=0.0)
    complete, expected = run(Regression(broken_at=[4]), tmp_path / "whole.pt", config=every_step)
    task, copies = Regression(broken_at=[4]), []

    def copying(*arguments, loss=task.loss):
        if (tmp_path / "each.pt").exists():
            copies.append((tmp_path / "each.pt").read_bytes())
        return loss(*arguments)

    task.loss = copying
    run(task, tmp_path / "each.pt", config=every_step)
    for i, (done, left_out) in {2: (3, 0), 3: (3, 0), 4: (5, 1)}.items():  # after steps 3, 4, 5
        (tmp_path / "then.pt").write_bytes(copies[i])
        state = serialization.load(tmp_path / "then.pt", "training")["state"]
        assert (state["step"], state["left_out"]) == (done, left_out)
    model, state = run(Regression(), tmp_path / "then.pt", resume=True)
    assert torch.equal(model[0].weight, complete[0].weight)
    assert [e["steps_left_out"] for e in state.epochs] == [e["steps_left_out"] for e in expected.epochs] == [0, 1, 0]


@pytest.mark.parametrize("seconds", [0.0, 1e9])
@pytest.mark.parametrize("last", [22, 100])
def test_too_many_in_a_row_stop_the_run(tmp_path, seconds, last):
    """Whatever the interval between readings, and even after a recovery; the checkpoint is from before those steps."""
    config = FitConfig(epochs=1, learning_rate=0.05, checkpoint_seconds=seconds)
    task, path = Regression(broken_at=range(5, last)), tmp_path / "c.pt"
    task.plan = lambda epoch, plan=task.plan: [batch for i in range(20) for batch in plan(i)]
    message = r"infinite or NaN in \d\d steps in a row, at step \d\d \(learning rate 0\.0\d+\)\. "
    good = r"The last good checkpoint is .*c\.pt" if seconds == 0 else "There is no checkpoint yet"
    with pytest.raises(UserError, match=message + good):
        run(task, path, config=config)
    if seconds == 0:
        saved = serialization.load(path, "training")
        assert (saved["state"]["step"], saved["state"]["left_out"]) == (4, 0)


def test_told_to_stop_among_bad_steps_a_run_saves_after_the_next_good_one(tmp_path):
    task = Regression(broken_at=[2, 3, 4])

    def stopping(*arguments, loss=task.loss):
        if task.steps == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(*arguments)

    task.loss = stopping
    task.plan = lambda epoch, plan=task.plan: plan(0) * 3
    with pytest.raises(Interrupted, match="after step 5 of 9"):
        run(task, tmp_path / "c.pt")
    assert serialization.load(tmp_path / "c.pt", "training")["state"]["step"] == 5


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    with pytest.raises(UserError, match="a weight is infinite or NaN, at step 1"):
        run(Regression(), tmp_path / "c.pt", config=FitConfig(learning_rate=1e39, warmup=0.0, checkpoint_seconds=0.0))
    assert not (tmp_path / "c.pt").exists()


def test_an_epoch_without_a_good_step_stops_the_run(tmp_path):
    with pytest.raises(UserError, match="not one step of epoch 2 had a finite gradient"):
        run(Regression(broken_at=[4, 5, 6]), tmp_path / "c.pt")


def test_a_loss_that_is_infinite_with_a_finite_gradient_stops_the_run(tmp_path):
    task = Regression()
    task.loss = lambda *arguments, loss=task.loss: (loss(*arguments)[0] + math.inf, 1, 1)
    with pytest.raises(UserError, match=r"the loss is inf, at step 3 \(learning rate .* no checkpoint yet"):
        run(task, tmp_path / "c.pt")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_advice_after_divergence_names_what_can_be_changed(tmp_path, precision):
    task = Regression(broken_at=[4, 5, 6])
    with pytest.raises(UserError, match="not one step of epoch 2") as raised:
        run(task, tmp_path / "c.pt", settings={"precision": precision})
    assert ("fp32" in str(raised.value)) == ("precision" in raised.value.parameters) == (precision == "bf16")
    assert "resuming from it would repeat this" in str(raised.value)


def test_exploding_gradients_are_seen(tmp_path, capsys):
    _, state = run(Regression(broken_at=[5], broken="large"), tmp_path / "c.pt")
    largest = [epoch["largest_gradient_norm"] for epoch in state.epochs]
    assert largest[1] > 1e5 > 1e2 > max(largest[0], largest[2]) > 0
    assert re.search(r"epoch 2/3: .*gradient norm up to [\d.]+e\+06", capsys.readouterr().out)


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_validation_figure_that_is_no_number_stops_the_run(tmp_path, epoch):
    figures = [1.0, 1.0, 1.0]
    figures[epoch] = math.nan
    with pytest.raises(UserError, match="validation error is nan"):
        run(Regression(dictated=figures), tmp_path / "c.pt")


def test_a_signal_during_validation_stops_the_run_after_it(tmp_path):
    class Stopped(Regression):
        def validate(self, model):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().validate(model)

    with pytest.raises(Interrupted) as stop:
        run(Stopped(), tmp_path / "c.pt", config=FitConfig(epochs=1, learning_rate=0.05))
    assert stop.value.signal_number == signal.SIGTERM
    _, state = run(Regression(), tmp_path / "c.pt", config=FitConfig(epochs=1, learning_rate=0.05), resume=True)
    assert state.epoch == 1 and len(state.epochs) == 1


def test_where_a_resumed_run_goes_on_is_said(tmp_path, capsys):
    class Stopped(Regression):
        def loss(self, *arguments):
            if self.steps == 4:
                os.kill(os.getpid(), signal.SIGINT)
            return super().loss(*arguments)

    with pytest.raises(Interrupted, match="epoch 2 of 3, after step 2 of 3"):
        run(Stopped(), tmp_path / "c.pt")
    run(Regression(), tmp_path / "c.pt", resume=True)
    assert "regression: resuming in epoch 2 of 3, after step 2" in capsys.readouterr().out


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(Regression(), tmp_path / "c.pt")
    model = nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.1), nn.Linear(1, 1))
    with pytest.raises(UserError, match="weights of another model"):
        run(Regression(), tmp_path / "c.pt", model, resume=True)


def test_what_is_kept_as_it_is_needs_no_room(tmp_path):
    model = build()
    model[0].bias.requires_grad_(False)
    run(Regression(), tmp_path / "c.pt", model)
    saved = serialization.load(tmp_path / "c.pt", "training")
    assert set(saved["weights"]) == set(saved["best_weights"]) == {"0.weight"}


def test_one_rank_sums_to_itself():
    assert Ranks().sum(3, 2.5, True) == [3, 2.5, True]
    assert Ranks().gather("x") == ["x"]
