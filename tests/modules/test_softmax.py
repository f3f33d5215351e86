import pytest
import torch
import torch.nn.functional as F

from bilm.modules import softmax as softmax_module
from bilm.modules.softmax import DIVISOR, AdaptiveSoftmax, FullSoftmax

WIDTH, VOCABULARY, STATES = 16, 61, 200


@pytest.fixture(params=["full", "adaptive"])
def softmax(request):
    layer = FullSoftmax(WIDTH, VOCABULARY) if request.param == "full" else AdaptiveSoftmax(WIDTH, VOCABULARY, (11, 29))
    # Large weights: a distribution far from uniform, in which rare words win now and then.
    for p in layer.parameters():
        torch.nn.init.normal_(p)
    return layer


@pytest.fixture
def states():
    return torch.randn(STATES, WIDTH)


@pytest.fixture
def targets():
    return torch.randint(0, VOCABULARY, (STATES,))


def test_log_probabilities_sum_to_one(softmax, states):
    log_probs = softmax.log_probs(states)
    assert log_probs.shape == (STATES, VOCABULARY)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(STATES))


def test_loss_is_the_cross_entropy_of_the_log_probabilities(softmax, states, targets):
    torch.testing.assert_close(
        softmax.nll(states, targets),
        F.nll_loss(softmax.log_probs(states), targets, reduction="none"),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("at_once", [softmax_module._AT_ONCE, 70 * VOCABULARY])
def test_loss_and_gradient_are_those_of_the_whole_distribution(softmax, states, targets, at_once, monkeypatch):
    """Also when the scores are computed for 64 states at a time, and for 8 in the last chunk."""
    monkeypatch.setattr(softmax_module, "_AT_ONCE", at_once)
    states.requires_grad_()
    loss = softmax.loss(states, targets)
    (3 * loss).backward()
    result = {name: p.grad.clone() for name, p in [("states", states), *softmax.named_parameters()]}
    softmax.zero_grad()
    states.grad = None
    expected = F.nll_loss(softmax.log_probs(states), targets, reduction="sum")
    (3 * expected).backward()
    torch.testing.assert_close(loss, expected)
    for name, p in [("states", states), *softmax.named_parameters()]:
        torch.testing.assert_close(result[name], p.grad, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(softmax.loss(states, targets), expected)


def test_the_loss_in_bf16_is_near_that_in_fp32(softmax, states, targets):
    """Products in bf16, sums in fp32: the error of the loss is at most the rounding of the scores."""
    expected = softmax.loss(states, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = softmax.loss(states.bfloat16(), targets)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=5e-3, atol=0)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_topk_is_that_of_the_whole_distribution(softmax, states, k):
    k = min(k, 11) if isinstance(softmax, AdaptiveSoftmax) else k
    expected = softmax.log_probs(states).topk(k, dim=-1)
    assert (softmax.topk(states, k) == expected.indices).all()
    assert (expected.indices >= 29).any(), "no rare word among the likeliest: this test would not see the clusters"


def test_adaptive_agrees_with_pytorch(states, targets):
    reference = torch.nn.AdaptiveLogSoftmaxWithLoss(WIDTH, VOCABULARY, [11, 29], div_value=DIVISOR, head_bias=True)
    own = AdaptiveSoftmax(WIDTH, VOCABULARY, (11, 29))
    own.load_state_dict({name.replace("tail.", "tails."): p for name, p in reference.state_dict().items()})
    torch.testing.assert_close(own.nll(states, targets), -reference(states, targets).output)
    torch.testing.assert_close(own.log_probs(states), reference.log_prob(states))


def test_every_cluster_gets_a_gradient_even_without_a_target(states):
    layer = AdaptiveSoftmax(WIDTH, VOCABULARY, (11, 29))
    layer.nll(states, torch.zeros(STATES, dtype=torch.long)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_a_vocabulary_smaller_than_the_shortlist_has_no_clusters(states):
    layer = AdaptiveSoftmax(WIDTH, 9, (11, 29))
    assert not layer.tails
    torch.testing.assert_close(layer.log_probs(states).exp().sum(-1), torch.ones(STATES))


def test_loss_is_fp32_under_autocast(softmax, states, targets):
    exact = softmax.nll(states, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = softmax.nll(states, targets)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.2
