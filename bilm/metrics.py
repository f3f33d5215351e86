"""Scores of the language model from counts that are added up over batches, so that no target need be kept.

A quotient without a denominator (a word that never occurs or is never predicted) counts as 0, as in scikit-learn with
zero_division=0. Scores of classifiers are computed by scikit-learn itself; see evaluation.py.
"""

import math
from typing import Any

import numpy as np


class ClassCounts:
    """How often each of C classes occurs, is predicted, and both at once: int64 (C,) each."""

    def __init__(self, num_classes: int):
        self.actual = np.zeros(num_classes, dtype=np.int64)
        self.predicted = np.zeros(num_classes, dtype=np.int64)
        self.hits = np.zeros(num_classes, dtype=np.int64)

    def add(self, actual: np.ndarray, predicted: np.ndarray) -> None:
        """Two int arrays (N,) of classes from 0 to C - 1."""
        size = len(self.actual)
        self.actual += np.bincount(actual, minlength=size)
        self.predicted += np.bincount(predicted, minlength=size)
        self.hits += np.bincount(actual[actual == predicted], minlength=size)

    def scores(self) -> dict[str, Any]:
        """Accuracy; macro averages of precision, recall and F1; the same weighted by support; the number of classes.

        Classes that neither occur nor are predicted are left out, as in scikit-learn.
        `undefined`: how many of the others lack the denominator of a quotient.
        """
        seen = (self.actual + self.predicted) > 0
        actual, predicted, hits = self.actual[seen], self.predicted[seen], self.hits[seen]
        scores: dict[str, Any] = {"accuracy": float(hits.sum() / max(actual.sum(), 1))}
        for name, numerator, denominator in (
            ("precision", hits, predicted),
            ("recall", hits, actual),
            ("f1", 2 * hits, actual + predicted),
        ):
            values = np.divide(numerator, denominator, out=np.zeros(len(hits)), where=denominator > 0)
            scores[name] = float(values.mean()) if len(values) else 0.0
            scores[f"{name}_weighted"] = float((values * actual).sum() / max(actual.sum(), 1))
        scores["classes"] = len(hits)
        scores["undefined"] = int(((actual == 0) | (predicted == 0)).sum())
        return scores


def perplexity(nll: float, targets: int) -> float:
    """exp of the mean negative log-likelihood (nats) per target; inf where that is beyond a float."""
    mean = nll / targets
    return math.exp(mean) if mean < 700 else math.inf
