"""Steps of plain gradient descent, whose length shows what became of the gradient and of the learning rate."""

import pytest
import torch
from torch import nn

from bilm.config import FitConfig
from bilm.training.loop import fit


class Line:
    """y = 3 x from ten rows: the loss sum is large, and its gradient with it."""

    label, unit, better_is = "line", "rows", ("error", "lower")

    def plan(self, epoch):
        return [None]

    def loss(self, model, item, rank, world_size):
        x = torch.arange(10.0)[:, None]
        return sum((part(x) - 3 * x).square().sum() for part in model), 10, 10

    def validate(self, model):
        return {"error": 0.0}


def step(tmp_path, clip_norm: float, rates: list[float]) -> list[float]:
    """How far each of two linear layers moves in one step at the rates `rates`."""
    model = nn.ModuleList(nn.Linear(1, 1) for _ in rates)
    before = [torch.cat([p.detach().flatten() for p in part.parameters()]) for part in model]
    groups = [{"params": [*part.parameters()], "peak": rate} for part, rate in zip(model, rates, strict=True)]
    fit(
        model,
        Line(),
        torch.optim.SGD(groups, lr=1.0, fused=True),
        FitConfig(epochs=1, warmup=0.0, clip_norm=clip_norm, checkpoint_seconds=1e9),
        checkpoint_path=tmp_path / "checkpoint.pt",
        settings={},
        autocast=lambda: torch.autocast("cpu", enabled=False),
        resume=False,
    )
    after = [torch.cat([p.detach().flatten() for p in part.parameters()]) for part in model]
    return [float((b - a).norm()) for a, b in zip(before, after, strict=True)]


def test_a_large_gradient_is_cut_to_the_norm_of_the_settings(tmp_path):
    """In the middle of a run of one step the cosine is at one half."""
    (moved,) = step(tmp_path, clip_norm=0.25, rates=[0.1])
    assert moved == pytest.approx(0.5 * 0.1 * 0.25, rel=1e-4)
    (moved,) = step(tmp_path, clip_norm=1e9, rates=[0.1])
    assert moved > 1


def test_the_norm_is_that_of_all_parts_together(tmp_path):
    one, other = step(tmp_path, clip_norm=0.25, rates=[0.1, 0.1])
    assert (one**2 + other**2) ** 0.5 == pytest.approx(0.5 * 0.1 * 0.25, rel=1e-4)


def test_each_part_moves_at_its_own_rate(tmp_path):
    torch.manual_seed(5)
    same = step(tmp_path, clip_norm=0.25, rates=[0.1, 0.1])
    torch.manual_seed(5)
    slower = step(tmp_path, clip_norm=0.25, rates=[0.1, 0.001])
    assert slower == pytest.approx([same[0], same[1] / 100], rel=1e-2)


def test_zero_switches_clipping_off(tmp_path):
    moved = []
    for limit in (0.0, 1e9):
        torch.manual_seed(0)
        moved += step(tmp_path, clip_norm=limit, rates=[0.1])
    assert moved[0] == pytest.approx(moved[1]) and moved[0] > 0.1
