"""Temperature scaling and the expected calibration error, against values computed by hand."""

import numpy as np
import pytest
import torch

from bilm.metrics import calibration_error
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


def test_the_temperature_stays_finite_where_all_answers_are_right_and_without_rows():
    assert 0.1 <= best_temperature(np.eye(3) * 5, np.arange(3)) < 0.2
    assert best_temperature(np.zeros((0, 3)), np.zeros(0, np.int64)) == 1.0


def test_the_calibration_error_by_hand():
    """Two texts at 0.9, one right: |1/2 - 0.9|; two at 0.6, both right: |1 - 0.6|; the mean over the texts is 0.4."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    assert calibration_error(probabilities, np.array([0, 1, 1, 1])) == pytest.approx(0.4)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0.0
