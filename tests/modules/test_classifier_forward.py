"""A classifier's logits by hand, and what it reads of an encoder."""

import numpy as np
import pytest
import torch

from bilm.config import BiLMConfig, ClassifierConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.modules.language_model import BiLM
from bilm.text.batching import collate

ROWS = np.arange(5)


@pytest.fixture
def batch(vocabulary, texts):
    return collate(vocabulary.encode(texts), ROWS)


def build(bilm, dropout=0.0, finetuned=False) -> EncoderClassifier:
    config = ClassifierConfig(hidden=6, dropout=dropout, label_smoothing=0.0)
    return EncoderClassifier(bilm, Classifier(config, "trainable", bilm, 3, seed=0), finetuned)


def test_logits_are_a_linear_layer_on_the_mean_and_maximum_of_a_relu_layer(bilm, batch):
    model = build(bilm)
    with torch.no_grad():
        logits = model(batch)
        layers = [layer.double().numpy() for layer in bilm.encode(batch)]
    weights = {name: p.detach().double().numpy() for name, p in model.classifier.named_parameters()}
    for row, length in enumerate(batch.lengths.tolist()):
        mixed = sum(layer[row, :length] for layer in layers) / 3
        x = np.maximum(mixed @ weights["hidden.weight"].T + weights["hidden.bias"], 0)
        pooled = np.concatenate([x.mean(0), x.max(0)])
        np.testing.assert_allclose(logits[row], weights["out.weight"] @ pooled + weights["out.bias"], atol=1e-5)


def test_upper_layers_that_are_given_are_read_in_place_of_the_encoders(bilm, batch):
    model = build(bilm).eval()
    with torch.no_grad():
        layers = bilm.encode(batch)
        torch.testing.assert_close(model(batch, upper=layers[1:]), model(batch))
        others = [torch.zeros_like(layers[1]), layers[2]]
        torch.testing.assert_close(model(batch, upper=others), model.classifier([layers[0], *others], batch))
        assert not torch.allclose(model(batch, upper=others), model(batch))


def test_layers_that_are_given_carry_no_graph_of_the_encoder(bilm, batch):
    model = build(bilm)
    bilm.requires_grad_(True)
    with torch.no_grad():
        upper = bilm.encode(batch)[1:]
    model(batch, torch.zeros(5, dtype=torch.long), upper).backward()
    assert all(p.grad is None for p in bilm.parameters())
    assert all(p.grad is not None for p in model.classifier.parameters())


@pytest.mark.parametrize("finetuned", [True, False])
def test_layers_have_a_graph_where_the_encoder_learns_and_gradients_are_on(bilm, batch, finetuned):
    model = build(bilm, finetuned=finetuned)
    assert all(layer.requires_grad == finetuned for layer in model.layers(batch))
    with torch.no_grad():
        assert not any(layer.requires_grad for layer in model.layers(batch))
    assert model.train().encoder.training == finetuned and model.classifier.training
    assert not model.eval().encoder.training and not model.classifier.training


def test_dropout_falls_on_the_combined_and_on_the_pooled_vectors_in_training_alone(bilm, batch):
    model = build(bilm, dropout=0.5)
    seen = []
    model.classifier.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.classifier.out.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.train()(batch)
    shares = [(x == 0).float().mean().item() for x in seen]
    model.eval()(batch)
    exact = [(x == 0).float().mean().item() for x in seen[2:]]
    assert 0.4 < shares[0] < 0.6 and exact[0] < 0.01
    assert shares[1] > exact[1] + 0.2


def test_the_output_layer_is_computed_in_fp32_under_autocast(bilm, batch):
    classifier = build(bilm).classifier.eval()
    with torch.no_grad():
        layers = bilm.encode(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert classifier(layers, batch).dtype == torch.float32


def test_a_language_model_of_one_lstm_has_one_upper_layer(batch):
    encoder = BiLM(BiLMConfig(width=7, layers=1, softmax="none"), 40).eval()
    model = build(encoder).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(batch, upper=encoder.encode(batch)[1:]), model(batch))
