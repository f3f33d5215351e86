"""The event files of --tensorboard, read by TensorBoard itself."""

import os
import signal
import sys

import pytest
import torch
from test_loop import CONFIG, Regression, build

from bilm.cli.options import TensorBoardOptions
from bilm.runtime.errors import Interrupted, UserError
from bilm.training.loop import fit
from bilm.training.optimizer import build_optimizer
from bilm.training.tensorboard_log import event_file


def scalars(folder) -> dict[str, dict[int, float]]:
    """What TensorBoard shows of `folder`: the values of each curve by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    curves = {}
    for name in accumulator.Tags()["scalars"]:
        events = accumulator.Scalars(name)
        curves[name] = {e.step: e.value for e in events}
        assert len(curves[name]) == len(events), "a step twice"
    return curves


def train(task, path, folder=None, *, resume=False, is_main=True):
    model = build()
    return fit(
        model,
        task,
        build_optimizer([(model, CONFIG.learning_rate)], CONFIG.weight_decay),
        CONFIG,
        checkpoint_path=path,
        settings={},
        autocast=lambda: torch.autocast("cpu", enabled=False),
        resume=resume,
        log=TensorBoardOptions(tensorboard=True).log(folder, is_main) if folder else None,
    )


class Stopped(Regression):
    def loss(self, *arguments):
        if self.steps == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return super().loss(*arguments)


def test_an_interrupted_run_writes_the_curves_of_a_whole_one(tmp_path):
    """The history, too, is the same with and without the option."""
    pytest.importorskip("tensorboard")
    expected = train(Regression(), tmp_path / "whole.pt")
    with pytest.raises(Interrupted):
        train(Stopped(), tmp_path / "c.pt", tmp_path / "events")
    state = train(Regression(), tmp_path / "c.pt", tmp_path / "events", resume=True)
    assert state.curve == expected.curve
    result = scalars(tmp_path / "events")
    assert result["training/loss"] == pytest.approx({c["step"]: c["loss"] for c in expected.curve})
    assert result["training/gradient_norm"] == pytest.approx({c["step"]: c["gradient_norm"] for c in expected.curve})
    assert result["validation/error"] == pytest.approx({3 * e["epoch"]: e["error"] for e in expected.epochs})
    rates = result["training/learning_rate"]
    assert list(rates) == [3, 6, 9] and CONFIG.learning_rate > rates[3] > rates[6] > rates[9] > 0


def test_a_resumed_run_replaces_what_follows_its_checkpoint_and_a_new_one_everything(tmp_path):
    pytest.importorskip("tensorboard")

    def write(done, *points):
        with event_file(tmp_path, done) as record:
            for step, value in points:
                record(step, {"loss": value, "gradient_norm": None})

    write(0, (25, 3.0), (50, 2.0), (75, 9.0))
    write(60, (75, 1.0), (100, 0.5))
    assert scalars(tmp_path) == {"loss": {25: 3.0, 50: 2.0, 75: 1.0, 100: 0.5}}
    write(0, (30, 4.0))
    assert scalars(tmp_path) == {"loss": {30: 4.0}}


def test_without_the_option_and_on_other_ranks_nothing_is_written(tmp_path):
    pytest.importorskip("tensorboard")
    train(Regression(), tmp_path / "c.pt", tmp_path / "events", is_main=False)
    assert not (tmp_path / "events").exists() and TensorBoardOptions().log(tmp_path, True) is None


def test_a_missing_package_is_named_before_anything_is_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    TensorBoardOptions()
    with pytest.raises(UserError, match="pip install tensorboard"):
        TensorBoardOptions(tensorboard=True)
