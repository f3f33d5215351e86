import numpy as np
import pytest
import torch

from bilm.modules.scalar_mix import LearnedFunction, ScalarMix, build_combiner


@pytest.fixture
def layers():
    return [torch.randn(2, 5, 7) for _ in range(3)]


def test_scalar_mix_equals_numpy(layers):
    mix = ScalarMix(3, trainable=True)
    w, gamma = np.array([0.3, -1.2, 2.0]), 1.7
    with torch.no_grad():
        mix.w.copy_(torch.tensor(w))
        mix.gamma.fill_(gamma)
    lambdas = np.exp(w) / np.exp(w).sum()
    expected = gamma * sum(weight * layer.numpy() for weight, layer in zip(lambdas, layers, strict=True))
    np.testing.assert_allclose(mix(layers).detach().numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(mix.describe()["lambdas"], lambdas, atol=1e-6)
    assert mix.describe()["gamma"] == pytest.approx(gamma)


def test_trainable_starts_with_equal_weights_and_learns(layers):
    mix = ScalarMix(3, trainable=True)
    assert mix.describe() == {"lambdas": pytest.approx([1 / 3] * 3), "gamma": 1.0}
    mix(layers).square().sum().backward()
    assert mix.w.grad.abs().sum() > 0 and mix.gamma.grad.abs() > 0


def test_frozen_is_random_by_its_seed_and_has_no_gradient(layers):
    one, same, other = (ScalarMix(3, trainable=False, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.w, same.w) and not torch.equal(one.w, other.w)
    assert len({round(weight, 4) for weight in one.describe()["lambdas"]}) == 3
    assert sum(one.describe()["lambdas"]) == pytest.approx(1)
    assert not any(p.requires_grad for p in one.parameters())
    assert not one(layers).requires_grad


def test_frozen_lambdas_do_not_depend_on_the_global_seed():
    torch.manual_seed(1)
    one = ScalarMix(3, trainable=False, seed=5)
    torch.manual_seed(2)
    assert torch.equal(one.w, ScalarMix(3, trainable=False, seed=5).w)


def test_wrong_number_of_layers(layers):
    with pytest.raises(ValueError, match="2 layers for 3 weights"):
        ScalarMix(3, trainable=True)(layers[:2])


def test_learned_function_equals_numpy(layers):
    function = LearnedFunction(3, 7)
    x = np.concatenate([layer.numpy() for layer in layers], axis=-1)
    expected = np.maximum(x @ function.linear.weight.detach().numpy().T + function.linear.bias.detach().numpy(), 0)
    np.testing.assert_allclose(function(layers).detach().numpy(), expected, atol=1e-5)


def test_layer_shares_say_which_layer_is_read():
    function = LearnedFunction(3, 7)
    with torch.no_grad():
        function.linear.weight.zero_()
        function.linear.weight[0, 7] = 3.0  # a feature of e1
        function.linear.weight[0, 14] = 1.0  # and one of e2
    assert function.describe() == {"layer_shares": pytest.approx([0.0, 0.9, 0.1])}


@pytest.mark.parametrize(
    ("mode", "kind", "learns"),
    [
        ("trainable", ScalarMix, True),
        ("finetune", ScalarMix, True),
        ("frozen", ScalarMix, False),
        ("function", LearnedFunction, True),
    ],
)
def test_modes(mode, kind, learns):
    combiner = build_combiner(mode, 3, 7, seed=0)
    assert type(combiner) is kind
    assert all(p.requires_grad is learns for p in combiner.parameters())


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="functoin"):
        build_combiner("functoin", 3, 4, seed=0)
