"""Temperature scaling and the expected calibration error, against values computed by hand."""

import numpy as np
import pytest
import torch
from conftest import SAMPLE

from bilm import TextClassifier
from bilm.checkpoints.model_format import load_bilm, load_classifier
from bilm.config import ClassifierConfig
from bilm.metrics import calibration_error
from bilm.modules.classifier import Classifier
from bilm.text.ag_news import read_ag_news
from bilm.text.batching import collate
from bilm.text.split import split_validation, text_key
from bilm.training.calibration import best_temperature, uncalibrated


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_labels_that_were_drawn_with_it_is_found(temperature):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 4)) * 2
    probabilities = torch.from_numpy(logits / temperature).softmax(1).numpy()
    labels = (probabilities.cumsum(1) > generator.random((20_000, 1))).argmax(1)
    assert best_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)
    before = torch.from_numpy(logits).softmax(1).numpy()
    np.testing.assert_allclose(uncalibrated(probabilities, temperature), before, rtol=1e-6)
    assert calibration_error(probabilities, labels) < 0.02
    assert temperature == 1.0 or calibration_error(before, labels) > 0.05


def test_few_right_answers_are_not_taken_for_certainty():
    """N rows of C classes, all right with the same logits: the probability is (N + 1 / C) / (N + 1)."""
    for n in (3, 30, 300):
        logits = np.tile(np.eye(3) * 2, (n // 3, 1))
        temperature = best_temperature(logits, logits.argmax(1))
        probabilities = torch.from_numpy(logits / temperature).softmax(1)
        assert float(probabilities.amax(1)[0]) == pytest.approx((n + 1 / 3) / (n + 1), abs=1e-4)
    assert best_temperature(np.eye(3) * 500, np.arange(3)) == pytest.approx(10, rel=1e-3)
    assert best_temperature(np.zeros((0, 3)), np.zeros(0, np.int64)) == 1.0


def test_the_calibration_error_by_hand():
    """Two texts at 0.9, one right: |1/2 - 0.9|; two at 0.6, both right: |1 - 0.6|; the mean over the texts is 0.4."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    assert calibration_error(probabilities, np.array([0, 1, 1, 1])) == pytest.approx(0.4)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0.0


@pytest.mark.parametrize("mode", ["trainable", "function"])
def test_the_temperature_of_a_trained_classifier_is_the_best_on_its_validation_rows(trained, mode):
    models = trained[0] / "models/sample"
    pretrained = load_bilm(models / "bilstm.pt")
    member = load_classifier(models / f"classifier_{mode}.pt", pretrained)
    labels, texts = map(list, zip(*read_ag_news(SAMPLE / "train.csv"), strict=True))
    _, rows = split_validation(np.array(labels), np.array([text_key(text) for text in texts], np.uint64))
    probabilities, actual = TextClassifier([member]).predict_proba([texts[i] for i in rows]), np.array(labels)[rows]
    temperature = float(member.model.classifier.temperature)
    assert member.info["temperature"] == pytest.approx(temperature) and abs(temperature - 1) > 0.01
    assert best_temperature(temperature * np.log(probabilities), actual) == pytest.approx(temperature, rel=0.02)


def test_logits_are_divided_by_the_temperature(bilm, vocabulary, texts):
    classifier = Classifier(ClassifierConfig(hidden=8), "trainable", bilm, 3, seed=0).eval()
    batch = collate(vocabulary.encode(texts), np.arange(len(texts)))
    layers = bilm.encode(batch)
    before = classifier(layers, batch)
    classifier.temperature.fill_(2.0)
    assert torch.equal(classifier(layers, batch), before / 2)
