"""Metrics from counts and from paired predictions: scores of the language model, perplexity, McNemar's test.

Counts are added up over batches, so that no target need be kept. A quotient without a denominator (a word that never
occurs or is never predicted) counts as 0, as in scikit-learn with zero_division=0. The scores of classifiers are
computed by scikit-learn; see evaluation/scoring.py.
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


def mcnemar(actual: np.ndarray, one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """The exact test of McNemar 1947 for three int arrays (N,): labels, and the classes that two classifiers give.

    difference: of their accuracies, in favour of `one`, with `interval`, its 95 % confidence interval (Wald's, for
    paired proportions). p: of a difference at least as large, either way, were both equally good: a fair coin, thrown
    for each row that one of them alone has right.
    """
    from scipy.stats import binomtest  # takes a second to import

    right, other_right = one == actual, other == actual
    only_one, only_other = int((right & ~other_right).sum()), int((~right & other_right).sum())
    rows, discordant = len(actual), only_one + only_other
    difference = (only_one - only_other) / rows
    spread = 1.96 * math.sqrt(discordant - (only_one - only_other) ** 2 / rows) / rows
    return {
        "difference": difference,
        "interval": [difference - spread, difference + spread],
        "only_one_right": only_one,
        "only_other_right": only_other,
        "p": float(binomtest(only_one, discordant).pvalue) if discordant else 1.0,
    }
