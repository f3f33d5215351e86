"""Sums over batches -> accuracy, precision, recall, F1, confusion matrix; divided once, at the end.

The same counts serve four classes and a vocabulary of thousands. A quotient without a denominator (a class that was
never predicted, or never there) counts as 0, as scikit-learn has it with zero_division=0; `undefined` says how many.
"""

import math
from typing import Any

import numpy as np


class ClassCounts:
    """How often each of C classes was there, was predicted, and both: int64 (C,) each."""

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
        """accuracy; macro precision, recall, f1; the same weighted by support; and how many classes they rest on.

        Classes that neither occurred nor were predicted are left out, as in scikit-learn.
        """
        seen = (self.actual + self.predicted) > 0
        precision, recall, f1 = (values[seen] for values in self.per_class())
        support = self.actual[seen]
        scores: dict[str, Any] = {"accuracy": float(self.hits.sum() / max(self.actual.sum(), 1))}
        for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
            scores[name] = float(values.mean()) if len(values) else 0.0
            scores[f"{name}_weighted"] = float((values * support).sum() / max(support.sum(), 1))
        scores["classes"] = int(seen.sum())
        scores["undefined"] = int(((self.actual == 0) | (self.predicted == 0))[seen].sum())
        return scores

    def per_class(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Precision, recall, F1 of each class: fp64 (C,)."""
        return (
            _quotient(self.hits, self.predicted),
            _quotient(self.hits, self.actual),
            _quotient(2 * self.hits, self.actual + self.predicted),
        )


def perplexity(nll: float, targets: int) -> float:
    """exp of the mean negative log-likelihood (nats) per target; inf where that is beyond a float."""
    mean = nll / targets
    return math.exp(mean) if mean < 700 else math.inf


def _quotient(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


def confusion_matrix(actual: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 (C, C): row the true class, column the predicted one."""
    return np.bincount(actual * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)
