"""Adversarial perturbations: direction, length and padding, and the loss with them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bilm.config import BiLMConfig, CharCNNConfig, ClassifierConfig
from bilm.modules.adversarial import adversarial_loss, perturbation
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.modules.language_model import BiLM
from bilm.modules.static_encoder import StaticEncoder
from bilm.text.batching import Batch, collate, mask_of
from bilm.text.vocabulary import Vocabulary

LABELS = torch.tensor([2, 1, 0, 3, 0])
LENGTHS = torch.tensor([4, 2, 1])
CNN = CharCNNConfig(dim=3, filters=((1, 4), (2, 5)), max_characters=8)


@pytest.fixture
def batch(vocabulary, texts) -> Batch:
    """Every text but the longest has padding; of the words, a token layer that reads characters knows the letters."""
    return collate(Vocabulary(vocabulary.words, vocabulary.tokenizer, open_ended=True).encode(texts), np.arange(5))


def classifier_on(encoder) -> EncoderClassifier:
    """Without dropout."""
    config = ClassifierConfig(hidden=11, dropout=0.0, label_smoothing=0.0)
    return EncoderClassifier(encoder, Classifier(config, "finetune", encoder, 4, seed=3), finetuned=True).eval()


@pytest.fixture(params=["word", "char", "word+char"])
def model(request, vocabulary) -> EncoderClassifier:
    return classifier_on(BiLM(BiLMConfig(request.param, width=7, softmax="full", characters=CNN), len(vocabulary)))


@pytest.fixture
def learned(bilm, batch) -> EncoderClassifier:
    """A classifier that knows the five texts by heart, and is not yet certain."""
    model = classifier_on(bilm)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(25):
        model(batch, LABELS).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert model(batch).argmax(1).tolist() == LABELS.tolist()
    return model


def loss_at(model: EncoderClassifier, batch: Batch, x: torch.Tensor, labels=LABELS) -> torch.Tensor:
    return model.classifier.loss(model.encoder.encode(batch, x), batch, labels)


def perturbation_of(model: EncoderClassifier, batch: Batch, strength: float, labels=LABELS):
    """The token vectors and their perturbation."""
    x = model.encoder.token_vectors(batch).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_at(model, batch, x, labels), x)
    return x.detach(), perturbation(gradient, x.detach(), batch.lengths, strength)


def test_the_perturbation_by_hand():
    """Each text's own gradient and length; what token vectors are at padding does not count."""
    gradient, x = torch.randn(3, 4, 2), torch.randn(3, 4, 2)
    mask = mask_of(LENGTHS, 4).unsqueeze(-1).expand_as(x)
    x[~mask], gradient[~mask] = 100.0, 0.0
    r = perturbation(gradient, x, LENGTHS, 0.3)
    for i, length in enumerate(LENGTHS.tolist()):
        g = gradient[i, :length]
        torch.testing.assert_close(r[i, :length], 0.3 * x[i, :length].norm() * g / g.norm())
        assert not r[i, length:].any()


def test_a_text_without_a_gradient_is_not_perturbed():
    r = perturbation(torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]]]), torch.ones(2, 1, 2), torch.tensor([1, 1]), 1.0)
    torch.testing.assert_close(r, 2**0.5 * torch.tensor([[[0.0, 0.0]], [[0.6, 0.8]]]))


def test_a_perturbation_is_of_the_given_length_and_leaves_padding_alone(model, batch):
    x, r = perturbation_of(model, batch, 0.02)
    mask = mask_of(batch.lengths, x.shape[1])
    for text, of_text, tokens in zip(x, r, mask, strict=True):
        assert float(of_text.norm()) == pytest.approx(0.02 * float(text[tokens].norm()), rel=1e-5)
    assert r.shape == x.shape and not r[~mask].any() and (~mask).any()
    assert r[mask].any(1).all(), "every token has its share, the boundaries as well"


def test_a_text_has_the_same_perturbation_in_any_company(model, batch):
    _, together = perturbation_of(model, batch, 0.1)
    for i, length in enumerate(batch.lengths.tolist()):
        alone = replace(batch, ids=batch.ids[i : i + 1, :length], lengths=batch.lengths[i : i + 1])
        _, r = perturbation_of(model, alone, 0.1, LABELS[i : i + 1])
        torch.testing.assert_close(r[0], together[i, :length], rtol=1e-3, atol=1e-6)


def test_no_direction_increases_the_loss_of_a_trained_model_more(learned, batch):
    """To first order the increase is |g| |r|, for both directions of reading and e0 together."""
    x, r = perturbation_of(learned, batch, 1e-3)
    with torch.no_grad():
        loss, increased, decreased = (loss_at(learned, batch, at).item() for at in (x, x + r, x - r))
        assert increased > loss > decreased
        for _ in range(20):
            other = torch.randn_like(r) * mask_of(batch.lengths, x.shape[1]).unsqueeze(-1)
            other *= r.flatten(1).norm(dim=1)[:, None, None] / other.flatten(1).norm(dim=1)[:, None, None]
            assert loss_at(learned, batch, x + other).item() < increased


def test_the_loss_is_the_mean_of_that_of_the_texts_and_that_of_the_perturbed_ones(model, batch):
    """And so is its gradient, in which the perturbation is a constant, and the token vectors are not."""
    _, r = perturbation_of(model, batch, 0.1)
    expected = (model(batch, LABELS) + loss_at(model, batch, model.encoder.token_vectors(batch) + r)) / 2
    loss = model(batch, LABELS, adversarial=0.1)
    torch.testing.assert_close(loss, expected)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, one, other in zip(
        parameters, *(torch.autograd.grad(3 * x, parameters.values()) for x in (loss, expected)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
        assert one.any(), name


def test_a_table_with_sparse_gradients_has_the_same_ones(bilm, batch):
    model, table = classifier_on(bilm), bilm.tokens.word
    gradients = []
    for table.sparse in (False, True):
        (gradient,) = torch.autograd.grad(model(batch, LABELS, adversarial=0.1), [table.weight])
        assert gradient.is_sparse == table.sparse
        gradients.append(gradient.to_dense())
    torch.testing.assert_close(*gradients)


def test_a_strength_of_zero_is_the_loss_alone_bit_by_bit(bilm, batch):
    """Also of the random state: one set of dropout masks, not two."""
    model = classifier_on(bilm).train()
    results = []
    for options in ({}, {"adversarial": 0.0}):
        torch.manual_seed(1)
        loss = model(batch, LABELS, **options)
        results.append((loss, *torch.autograd.grad(loss, [bilm.tokens.word.weight]), torch.get_rng_state()))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("autocast", [False, True])
def test_the_gradient_under_autocast(autocast):
    """Autocast keeps its copy of a weight for both passes, and rounds no product of the backward pass."""
    torch.manual_seed(1)
    x, weight = torch.randn(3, 4, 8, requires_grad=True), torch.randn(8, 8, requires_grad=True)
    points = []

    def loss_at(x: torch.Tensor) -> torch.Tensor:
        points.append(x.detach())
        with torch.autocast("cpu", enabled=False):
            exact = (x @ weight).square().sum()
        return exact + (1e-6 * (x @ weight)).sum().float()

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = adversarial_loss(loss_at, x, torch.tensor([4, 4, 4]), [weight], 0.1)
    gradients = torch.autograd.grad(loss, [x, weight])
    expected = sum((point @ weight).square().sum() for point in (x, x + (points[1] - points[0]))) / 2
    for one, other in zip(gradients, torch.autograd.grad(expected, [x, weight]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_table_in_place_of_the_language_model_can_be_perturbed(batch):
    encoder = StaticEncoder.random(40, 6, seed=0)
    model = classifier_on(encoder)
    assert model(batch, LABELS, adversarial=0.1).item() > model(batch, LABELS).item()
