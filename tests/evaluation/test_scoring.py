"""Probabilities and vectors of texts in batches, against one text at a time."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from bilm.config import ClassifierConfig
from bilm.evaluation.scoring import class_probabilities, mean_layers
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.text.batching import collate

CPU = torch.device("cpu")


@pytest.fixture
def encoded(vocabulary, texts):
    return vocabulary.encode(texts)


@pytest.fixture
def batches(encoded):
    """Batches without one row, and in no order."""
    return [collate(encoded, np.array(rows)) for rows in ([4, 0, 3], [1])]


def test_probabilities_and_their_mean(bilm, encoded, batches):
    """Two classifiers share an encoder, a third has another: their layers must not be confused."""
    finetuned = copy.deepcopy(bilm)
    torch.nn.init.normal_(finetuned.forward_lstm.lstms[0].weight_ih_l0)
    models = {}
    for name, encoder in (("trainable", bilm), ("finetune", finetuned), ("function", bilm)):
        classifier = Classifier(ClassifierConfig(hidden=5), name, encoder, 4, seed=0)
        models[name] = EncoderClassifier(encoder, classifier, finetuned=name == "finetune").eval()
    result = class_probabilities(models, batches, 5, CPU, nullcontext)
    assert list(result) == ["trainable", "finetune", "function", "ensemble"]
    for name, model in models.items():
        for row in (0, 1, 3, 4):
            with torch.no_grad():
                alone = model(collate(encoded, np.array([row]))).softmax(-1)[0].numpy()
            np.testing.assert_allclose(result[name][row], alone, atol=1e-6)
        assert np.isnan(result[name][2]).all()
    mean = (result["trainable"] + result["finetune"] + result["function"]) / 3
    np.testing.assert_allclose(result["ensemble"], mean, rtol=1e-6)
    assert not np.allclose(result["trainable"][0], result["finetune"][0])
    one = class_probabilities({"function": models["function"]}, batches, 5, CPU, nullcontext)
    assert list(one) == ["function"], "one model is no ensemble"


def test_mean_layers_are_means_over_a_texts_own_tokens(bilm, encoded, batches):
    result = mean_layers(bilm, batches, 5, CPU, nullcontext)
    assert result.shape == (5, bilm.num_layers, bilm.output_dim) and np.isnan(result[2]).all()
    for row in (0, 1, 3, 4):
        with torch.no_grad():
            layers = bilm.encode(collate(encoded, np.array([row])))
        for layer, vector in zip(layers, result[row], strict=True):
            np.testing.assert_allclose(vector, layer[0].mean(0).numpy(), atol=1e-6)
