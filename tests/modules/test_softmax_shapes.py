"""The kinds of softmax, the shapes of their clusters, and batches whose size is no multiple of anything."""

import pytest
import torch
import torch.nn.functional as F

from bilm.modules import softmax as softmax_module
from bilm.modules.softmax import AdaptiveSoftmax, FullSoftmax, build_softmax, linear_cross_entropy


def test_each_kind_is_built_and_no_other():
    assert build_softmax("none", 8, 20, (5,)) is None
    full, adaptive = (build_softmax(kind, 8, 20, (5, 9)) for kind in ("full", "adaptive"))
    assert type(full) is FullSoftmax and full.out.weight.shape == (20, 8) and full.out.bias.shape == (20,)
    assert type(adaptive) is AdaptiveSoftmax
    for kind in ("fully", "", "sampled"):
        with pytest.raises(ValueError, match=f"unknown softmax '{kind}'"):
            build_softmax(kind, 8, 20, (5,))


def test_clusters_are_narrower_by_half_each_and_never_of_width_zero():
    softmax = AdaptiveSoftmax(4, 30, (5, 9, 12, 20, 30, 40))
    assert softmax.head.weight.shape == (5 + 4, 4) and softmax.shortlist == 5
    shapes = [tuple(layer.weight.shape for layer in tail) for tail in softmax.tails]
    assert shapes == [((2, 4), (4, 2)), ((1, 4), (3, 1)), ((1, 4), (8, 1)), ((1, 4), (10, 1))]
    assert all(layer.bias is None for tail in softmax.tails for layer in tail)


def with_large_weights(layer):
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


@pytest.mark.parametrize("kind", ["full", "adaptive"])
@pytest.mark.parametrize("count", [1, 31, 32, 33, 65])
def test_loss_and_gradient_of_few_states(kind, count):
    """Against the log-probabilities, with the loss of every state by itself, too."""
    softmax = with_large_weights(build_softmax(kind, 8, 20, (5, 9)))
    states, targets = torch.randn(count, 8, requires_grad=True), torch.randint(0, 20, (count,))
    expected = F.nll_loss(softmax.log_probs(states), targets, reduction="none")
    result = softmax.nll(states, targets)
    assert result.shape == (count,)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    leaves = [states, *softmax.parameters()]
    for one, other in zip(
        torch.autograd.grad(softmax.loss(states, targets), leaves),
        torch.autograd.grad(expected.sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_every_word_of_a_cluster_is_reached_and_the_edges_belong_to_the_right_one():
    softmax, words = with_large_weights(AdaptiveSoftmax(8, 20, (5, 9))), torch.arange(20)
    state = torch.randn(1, 8)
    losses = softmax.nll(state.expand(20, 8), words)
    torch.testing.assert_close((-losses).exp().sum(), torch.tensor(1.0))
    torch.testing.assert_close(-losses, softmax.log_probs(state)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["full", "adaptive"])
@pytest.mark.parametrize("count", [1, 32, 45])
def test_products_have_few_shapes(monkeypatch, kind, count):
    """oneDNN keeps code for every shape: rows are padded to the next multiple of 32, and no further."""
    softmax, rows, plain = build_softmax(kind, 8, 20, (5, 9)), [], F.linear
    targets = torch.full((count,), 7)
    targets[0] = 15
    monkeypatch.setattr(softmax_module.F, "linear", lambda x, *others: rows.append(len(x)) or plain(x, *others))
    softmax.loss(torch.randn(count, 8), targets)
    of_all = -(-count // 32) * 32
    if kind == "full":
        assert rows == [of_all]
    else:  # the head, and two products for each cluster: words 5 to 8, and from 9 on
        of_first = -(-(count - 1) // 32) * 32
        assert rows == [of_all, of_first, of_first, 32, 32]


def test_the_scores_at_once_are_bounded(monkeypatch):
    """Products of at most so many scores, and of at least 32 states; else as many states as fit."""
    rows = []
    plain = F.linear
    monkeypatch.setattr(softmax_module.F, "linear", lambda x, *others: rows.append(len(x)) or plain(x, *others))
    states, weight, bias = torch.randn(200, 4), torch.randn(10, 4), torch.randn(10)
    for at_once, expected in ((1, [32] * 7), (640, [64] * 3 + [32]), (959, [64] * 3 + [32]), (960, [96, 96, 32])):
        monkeypatch.setattr(softmax_module, "_AT_ONCE", at_once)
        rows.clear()
        linear_cross_entropy(states, weight, bias, torch.zeros(200, dtype=torch.long))
        assert rows == expected


def test_a_loss_has_a_graph_only_where_gradients_are_on():
    layer, states, targets = FullSoftmax(4, 10), torch.randn(40, 4), torch.randint(0, 10, (40,))
    with torch.no_grad():
        loss = layer.loss(states, targets)
    assert not loss.requires_grad and layer.loss(states, targets).requires_grad
    torch.testing.assert_close(loss, layer.loss(states, targets).detach())


@pytest.mark.parametrize("k", [2, 3, 5])
def test_the_likeliest_words_where_a_cluster_is_smaller_than_k(k):
    """Clusters of two words and of one."""
    softmax = with_large_weights(AdaptiveSoftmax(8, 8, (5, 7)))
    states = torch.randn(300, 8)
    expected = softmax.log_probs(states).topk(k, dim=-1).indices
    assert torch.equal(softmax.topk(states, k), expected)
    assert {5, 6, 7} <= {*expected.flatten().tolist()}


def test_losses_are_fp32_whatever_the_states_are():
    layer, targets = FullSoftmax(4, 10).bfloat16(), torch.randint(0, 10, (40,))
    states = torch.randn(40, 4).bfloat16()
    assert layer.nll(states, targets).dtype == layer.log_probs(states).dtype == torch.float32
    assert layer.loss(states, targets).dtype == torch.float32


def test_every_word_of_a_large_vocabulary_has_a_loss():
    """No id stands for a target that is missing."""
    softmax, words = with_large_weights(AdaptiveSoftmax(8, 300, (120, 260))), torch.arange(300)
    state = torch.randn(1, 8)
    losses = softmax.nll(state.expand(300, 8), words)
    torch.testing.assert_close(-losses, softmax.log_probs(state)[0], rtol=1e-4, atol=1e-4)
