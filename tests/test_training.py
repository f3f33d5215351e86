"""The loop by itself, on a task that has nothing to do with text."""

import math
import os
import signal

import pytest
import torch
from torch import nn

from bilm import checkpoint
from bilm.config import FitConfig
from bilm.errors import Interrupted, UserError
from bilm.training import Ranks, build_optimizer, fit, schedule

CONFIG = FitConfig(epochs=3, learning_rate=0.05, clip_norm=1.0, checkpoint_seconds=1e9)


class Regression:
    """y = 2 x0 - x1 from batches of unequal size; validation figures can be dictated."""

    label, unit, better_is = "regression", "rows", ("error", "lower")

    def __init__(self, dictated: list[float] | None = None, broken_at: int | None = None):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(30, 2, generator=generator)
        self.y = self.x @ torch.tensor([2.0, -1.0])
        self.dictated = dictated
        self.broken_at = broken_at
        self.steps = 0
        self.seen: list[torch.Tensor] = []

    def plan(self, epoch):
        order = torch.randperm(30, generator=torch.Generator().manual_seed(epoch))
        return [order[:7], order[7:20], order[20:]]

    def loss(self, model, item, rank, world_size):
        self.steps += 1
        error = (model(self.x[item]).squeeze(1) - self.y[item]).square().sum()
        return error * (math.nan if self.steps == self.broken_at else 1.0), len(item), len(item)

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
    """The first batch by hand: mean over the batch, clipped, warmed up, AdamW."""
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
    whole, wanted = run(Regression(), tmp_path / "whole.pt")
    copies = []

    class Watched(Regression):
        def loss(self, *arguments):
            if (path := tmp_path / "each.pt").exists():
                copies.append(tmp_path / f"copy{len(copies)}.pt")
                copies[-1].write_bytes(path.read_bytes())
            return super().loss(*arguments)

    run(Watched(), tmp_path / "each.pt", config=FitConfig(epochs=3, learning_rate=0.05, checkpoint_seconds=0.0))
    assert len(copies) == 8
    for copy in copies:
        torch.manual_seed(99)
        model, state = run(Regression(), copy, nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.1)), resume=True)
        assert torch.equal(model[0].weight, whole[0].weight) and torch.equal(model[0].bias, whole[0].bias)
        strip = lambda epochs: [{k: v for k, v in e.items() if k != "seconds"} for e in epochs]  # noqa: E731
        assert strip(state.epochs) == strip(wanted.epochs) and state.curve == wanted.curve


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    run(Regression(), tmp_path / "c.pt", settings={"width": 3})
    with pytest.raises(UserError, match=r"other settings \(width: 3, now 4\)"):
        run(Regression(), tmp_path / "c.pt", settings={"width": 4}, resume=True)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    config = FitConfig(epochs=3, learning_rate=0.05, checkpoint_seconds=0.0)
    with pytest.raises(UserError, match=r"loss is nan at step 5 .*last good checkpoint") as error:
        run(Regression(broken_at=5), tmp_path / "c.pt", config=config)
    assert str(tmp_path / "c.pt") in str(error.value)
    assert checkpoint.load(tmp_path / "c.pt", "training")["state"]["step"] == 4


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_validation_figure_that_is_no_number_stops_the_run(tmp_path, epoch):
    figures = [1.0, 1.0, 1.0]
    figures[epoch] = math.nan
    with pytest.raises(UserError, match="validation error is nan"):
        run(Regression(dictated=figures), tmp_path / "c.pt")


def test_a_gradient_that_is_no_number_is_not_saved(tmp_path):
    class Broken(Regression):
        def loss(self, *arguments):
            error, count, units = super().loss(*arguments)
            error.register_hook(lambda gradient: gradient * math.nan if self.steps == 4 else gradient)
            return error, count, units

    with pytest.raises(UserError, match="norm of the gradient is nan at step 4"):
        run(Broken(), tmp_path / "c.pt", config=FitConfig(epochs=3, learning_rate=0.05, checkpoint_seconds=0.0))
    assert all(w.isfinite().all() for w in checkpoint.load(tmp_path / "c.pt", "training")["weights"].values())


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


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(Regression(), tmp_path / "c.pt")
    model = nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.1), nn.Linear(1, 1))
    with pytest.raises(UserError, match="weights of another model"):
        run(Regression(), tmp_path / "c.pt", model, resume=True)


def test_what_is_kept_as_it_is_needs_no_room(tmp_path):
    model = build()
    model[0].bias.requires_grad_(False)
    run(Regression(), tmp_path / "c.pt", model)
    saved = checkpoint.load(tmp_path / "c.pt", "training")
    assert set(saved["weights"]) == set(saved["best_weights"]) == {"0.weight"}


def test_one_rank_sums_to_itself():
    assert Ranks().sum(3, 2.5, True) == [3, 2.5, True]
    assert Ranks().gather("x") == ["x"]
