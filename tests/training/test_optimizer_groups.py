"""Which parameters decay, at which rate each learns, and the schedule at its edges."""

import math

import pytest
import torch
from torch import nn

from bilm.modules.scalar_mix import ScalarMix
from bilm.training.optimizer import build_optimizer, schedule


def settings_by_parameter(groups, decay=0.5) -> dict[nn.Parameter, tuple[float, float, float]]:
    optimizer = build_optimizer(groups, decay)
    return {p: (g["lr"], g["peak"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}


def test_weights_of_two_and_more_dimensions_decay_and_vectors_and_numbers_do_not():
    module = nn.ModuleList([nn.Linear(3, 2), nn.Conv1d(2, 3, 4), ScalarMix(3, trainable=True)])
    decays = {p: s[2] for p, s in settings_by_parameter([(module, 0.1)]).items()}
    assert len(decays) == 6
    for parameter, decay in decays.items():
        assert decay == (0.5 if parameter.dim() in (2, 3) else 0.0)


def test_a_part_that_is_listed_after_its_module_has_its_own_rate():
    module = nn.Sequential(nn.Linear(3, 2), nn.Sequential(nn.Linear(2, 2)))
    settings = settings_by_parameter([(module, 0.1), (module[1], 0.01)])
    assert set(settings) == set(module.parameters())
    for parameter in module[0].parameters():
        assert settings[parameter][:2] == (0.1, 0.1)
    for parameter in module[1].parameters():
        assert settings[parameter][:2] == (0.01, 0.01)


def test_what_is_fixed_is_left_out():
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    assert set(settings_by_parameter([(module, 0.1)])) == set(module[1].parameters())


def test_steps_are_those_of_adamw_with_its_usual_moments():
    torch.manual_seed(0)
    own, reference = nn.Linear(3, 2), nn.Linear(3, 2)
    reference.load_state_dict(own.state_dict())
    groups = [
        {"params": [reference.weight], "weight_decay": 0.3},
        {"params": [reference.bias], "weight_decay": 0.0},
    ]
    pairs = ((own, build_optimizer([(own, 0.05)], 0.3)), (reference, torch.optim.AdamW(groups, lr=0.05)))
    for step in range(3):
        for module, optimizer in pairs:
            module(torch.ones(3) * (step + 1)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(own.weight, reference.weight)
    torch.testing.assert_close(own.bias, reference.bias)


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.3])
def test_the_schedule_is_continuous_and_falls_by_a_cosine(warmup):
    assert schedule(warmup, warmup) == 1.0
    for share in (0.25, 1 / 3, 0.5):
        done = warmup + share * (1 - warmup)
        assert schedule(done, warmup) == pytest.approx((1 + math.cos(share * math.pi)) / 2)
    if warmup:
        assert schedule(0.9 * warmup, warmup) == pytest.approx(0.9)
