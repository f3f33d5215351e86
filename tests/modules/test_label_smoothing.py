"""The loss of a classifier, from its logits by hand."""

import numpy as np
import pytest
import torch

from bilm.config import ClassifierConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.text.batching import collate


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_the_loss_is_the_summed_cross_entropy_with_smoothed_labels(bilm, vocabulary, texts, smoothing):
    """Szegedy et al. 2016: of each label, the share `smoothing` is spread evenly over all C classes."""
    config = ClassifierConfig(hidden=6, dropout=0.0, label_smoothing=smoothing)
    model = EncoderClassifier(bilm, Classifier(config, "trainable", bilm, 4, seed=0), finetuned=False)
    batch, labels = collate(vocabulary.encode(texts), np.arange(5)), torch.tensor([2, 1, 0, 3, 0])
    with torch.no_grad():
        scores = 5 * model(batch).double().numpy()
        model.classifier.out.weight.mul_(5)
        model.classifier.out.bias.mul_(5)
        loss = model(batch, labels).item()
    log_probabilities = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    expected = np.eye(4)[labels.numpy()] * (1 - smoothing) + smoothing / 4
    assert loss == pytest.approx(-(expected * log_probabilities).sum(), rel=1e-5)
