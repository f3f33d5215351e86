"""Batches of static shape have the loss and the gradients of the batches they were made from; capturing needs a GPU."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bilm.config import BiLMConfig, ClassifierConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.modules.language_model import BiLM
from bilm.modules.softmax import IGNORE_INDEX, AdaptiveSoftmax
from bilm.text.batching import Batch, plan_batches
from bilm.training import cuda_graphs
from bilm.training.cuda_graphs import GraphedModel, padded, padded_shape

WORDS = 60


@pytest.fixture
def language_model() -> BiLM:
    return BiLM(BiLMConfig(width=8, dropout=0.0, cutoffs=(20, 30, 45)), WORDS).train()


@pytest.fixture
def batch() -> Batch:
    """Four texts, with words of every cluster of the softmax, and with one that the vocabulary does not have."""
    lengths = torch.tensor([9, 7, 3, 11])
    ids = torch.randint(4, 20, (4, 11))
    ids[0, 2:5], ids[1, 3], ids[3, 4] = torch.tensor([25, 35, 50]), 21, WORDS + 1
    ids[torch.arange(11) >= lengths[:, None]] = 0
    return Batch(ids, lengths, np.arange(4))


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("batch_tokens", [44, 300])
def test_the_loss_and_gradients_of_a_language_model(language_model, batch, batch_tokens):
    (language_model(batch).sum() / 7).backward()
    expected = gradients(language_model)
    graphed = GraphedModel(language_model, batch_tokens)
    for _ in range(2):  # the second time, into the same gradients
        loss = graphed(batch)
        (loss / 7).backward()
        torch.testing.assert_close(loss.detach(), language_model(batch).sum().detach())
        torch.testing.assert_close(gradients(language_model), expected)
    assert graphed.gradients


@pytest.mark.parametrize("mode", ["trainable", "frozen", "function", "finetune"])
def test_the_loss_and_gradients_of_a_classifier(language_model, batch, mode):
    config = ClassifierConfig(hidden=6, dropout=0.0)
    model = EncoderClassifier(language_model, Classifier(config, mode, language_model, 4, 0), mode == "finetune")
    labels = torch.tensor([3, 0, 1, 1])
    expected_loss = model.train()(batch, labels)
    expected_loss.backward()
    expected = gradients(model)
    graphed = GraphedModel(model, 300)
    graphed(batch, labels, None).backward()
    torch.testing.assert_close(gradients(model), expected)
    assert graphed.gradients and len(graphed.gradients) == len(expected)


def test_a_graph_is_replayed_and_a_batch_passed_on_in_turn(language_model, batch, monkeypatch):
    """`captured` stands for a CUDA graph: it writes the gradients, and no attribute of a parameter."""
    made = []

    def captured(model, inputs, other):
        def replay(inputs):
            loss = model.compute(inputs)
            language_model.zero_grad()
            return loss

        made.append((inputs[0].shape, other))
        return SimpleNamespace(replay=replay)

    monkeypatch.setattr(cuda_graphs, "_CapturedGraph", captured)
    monkeypatch.setattr(cuda_graphs, "_has_memory", lambda: True)
    rare = Batch(torch.where(batch.ids > 3, 50, batch.ids), batch.lengths, batch.rows)
    expected = {}
    for name, some in (("fixed", batch), ("rare", rare)):
        language_model(some).sum().backward()
        expected[name] = gradients(language_model)
    graphed = GraphedModel(language_model, 44)
    for i in range(2 + cuda_graphs.USES_BEFORE_CAPTURE):
        for name, some in (("fixed", batch), ("rare", rare)):
            graphed(some).backward()
            torch.testing.assert_close(gradients(language_model), expected[name])
        assert len(made) == (i >= cuda_graphs.USES_BEFORE_CAPTURE)
    assert made == [((4, 12), None)]


def test_layers_that_were_computed_before(language_model, batch):
    classifier = Classifier(ClassifierConfig(hidden=6, dropout=0.0), "trainable", language_model, 4, 0)
    model, labels = EncoderClassifier(language_model, classifier, False).train(), torch.tensor([3, 0, 1, 1])
    upper = [layer.detach() for layer in language_model.encode(batch)[1:]]
    graphed = GraphedModel(model, 300)
    torch.testing.assert_close(graphed(batch, labels, upper), model(batch, labels))
    assert not graphed.gradients


def test_a_batch_with_many_rare_words_keeps_its_shape(language_model, batch):
    batch.ids[:, 1:-1] = 50
    expected = language_model(batch).sum()
    graphed = GraphedModel(language_model, 44)
    torch.testing.assert_close(graphed(batch), expected)
    assert not graphed.gradients


def test_models_that_read_more_than_ids_are_called_as_they_are(batch):
    for config in (BiLMConfig(width=8, token_layer="char"), BiLMConfig(width=8, softmax="full")):
        assert not BiLM(config, WORDS).allows_static_shape(batch, 10**6)


def test_a_cluster_that_is_exactly_full(batch):
    """A quarter of 40 states: ten targets of a cluster are counted, eleven do not fit."""
    softmax = AdaptiveSoftmax(8, WORDS, (20, 30, 45))
    states, targets = torch.randn(40, 8), torch.full((40,), 5)
    targets[3:23:2] = 50
    targets[30:] = IGNORE_INDEX
    assert softmax.allows_static_shape(targets, 40)
    torch.testing.assert_close(softmax.nll(states, targets, static_shape=True), softmax.nll(states, targets))
    targets[4] = 51
    assert not softmax.allows_static_shape(targets, 40)


@pytest.mark.parametrize("batch_tokens", [512, 2048, 8192])
def test_every_batch_fits_into_its_shape(batch_tokens):
    lengths = np.random.default_rng(0).integers(2, 300, 4000)
    shapes = set()
    for rows in plan_batches(lengths, batch_tokens, np.random.default_rng(1)):
        size, width = padded_shape(int(lengths[rows].max()), batch_tokens)
        assert len(rows) <= size and lengths[rows].max() <= width
        assert size * width <= max(1.34 * batch_tokens, width)
        shapes.add((size, width))
    assert len(shapes) <= 30
    assert padded_shape(10**4, 512)[0] == 1


def test_padding(batch):
    labels = torch.tensor([3, 0, 1, 1])
    ids, lengths, padded_labels = padded(batch, (6, 12), labels)
    assert ids.shape == (6, 12) and torch.equal(ids[:4, :11], batch.ids) and not ids[4:].any() and not ids[:, 11].any()
    assert lengths.tolist() == [9, 7, 3, 11, 1, 1] and padded_labels.tolist() == [
        3,
        0,
        1,
        1,
        IGNORE_INDEX,
        IGNORE_INDEX,
    ]
