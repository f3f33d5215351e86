"""The weights of a scalar mix: where they come from, and how they can be set."""

import math

import pytest
import torch

from bilm.modules.scalar_mix import ScalarMix, build_combiner


def test_frozen_weights_are_normal_numbers_of_the_seed():
    for mix, seed in ((ScalarMix(3, trainable=False), 0), (build_combiner("frozen", 3, 7, seed=4), 4)):
        expected = torch.randn(3, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(mix.w, expected) and mix.gamma.item() == 1.0


def test_lambdas_can_be_set_by_their_logarithms():
    mix = ScalarMix(3, trainable=True)
    mix.start_from([math.log(0.2), -math.inf, math.log(0.8)])
    assert mix.describe()["lambdas"] == pytest.approx([0.2, 0.0, 0.8])
    layers = [torch.full((1, 1, 1), value) for value in (1.0, 10.0, 100.0)]
    assert mix(layers).item() == pytest.approx(80.2) and mix.w.requires_grad


def test_a_mix_of_one_layer_is_that_layer_times_gamma():
    mix, layer = ScalarMix(1, trainable=True), torch.randn(2, 3, 4)
    mix.gamma.data.fill_(2.0)
    torch.testing.assert_close(mix([layer]), 2 * layer)
