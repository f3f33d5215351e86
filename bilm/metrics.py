"""Accuracy, precision, recall, F1 of the language model and of classifiers; perplexity; McNemar's test.

Those of the language model are computed from counts, which are summed over batches, so that targets are not stored;
those of classifiers by scikit-learn. A quotient with denominator zero (a word that never occurs or is never predicted)
counts as 0, as in scikit-learn with zero_division=0.
"""

import math
from typing import Any

import numpy as np


class ClassCounts:
    """How often each of C classes occurs, is predicted, and is predicted correctly (hits): int64 (C,) each."""

    def __init__(self, num_classes: int):
        self.actual, self.predicted, self.hits = np.zeros((3, num_classes), dtype=np.int64)

    def add(self, actual: np.ndarray, predicted: np.ndarray) -> None:
        """Add two int arrays (N,) of classes from 0 to C - 1."""
        size = len(self.actual)
        self.actual += np.bincount(actual, minlength=size)
        self.predicted += np.bincount(predicted, minlength=size)
        self.hits += np.bincount(actual[actual == predicted], minlength=size)

    def scores(self) -> dict[str, Any]:
        """Return accuracy; precision, recall and F1, each as macro average and weighted by support; and two counts.

        classes: the number of classes that occur or are predicted, over which averages are taken, as in scikit-learn;
        undefined: how many of these have a quotient with denominator zero.
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
        return scores | {"classes": len(hits), "undefined": int(((actual == 0) | (predicted == 0)).sum())}


def perplexity(nll: float, targets: int) -> float:
    """Return exp of the mean negative log-likelihood (nats) per target; inf if a float cannot represent it."""
    mean = nll / targets
    return math.exp(mean) if mean < 700 else math.inf


def classification_figures(actual: np.ndarray, predicted: np.ndarray, class_names: list[str]) -> dict[str, Any]:
    """Return the metrics of one classifier, computed by scikit-learn from true and predicted classes, int (N,).

    precision, recall and f1 without a suffix are macro averages; both averages exclude classes that neither occur nor
    are predicted. A ratio with the denominator 0 counts as 0; `undefined` is the number of classes with such a ratio.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    labels = range(len(class_names))
    matrix = confusion_matrix(actual, predicted, labels=labels)
    occurrences, predictions = matrix.sum(1), matrix.sum(0)
    per_class, macro, weighted = (
        precision_recall_fscore_support(actual, predicted, zero_division=0, **options)
        for options in ({"labels": labels}, {"average": "macro"}, {"average": "weighted"})
    )
    return {
        "accuracy": float(matrix.trace() / len(actual)),
        **{
            f"{name}{suffix}": float(averages[i])
            for i, name in enumerate(("precision", "recall", "f1"))
            for suffix, averages in (("", macro), ("_weighted", weighted))
        },
        "classes": int(((occurrences > 0) | (predictions > 0)).sum()),
        "undefined": int(((occurrences > 0) ^ (predictions > 0)).sum()),
        "rows": len(actual),
        "per_class": [
            {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
            for name, p, r, f, n in zip(class_names, *per_class, strict=True)
        ],
        "confusion_matrix": matrix.tolist(),
    }


def calibration_error(probabilities: np.ndarray, actual: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error (Naeini et al. 2015): probabilities fp (N, C), actual int (N,).

    Texts are grouped by the probability of their most probable class into `bins` intervals of equal width; the error is
    the mean over the texts of the difference between the accuracy and the mean probability of their group.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == actual
    groups = np.minimum((confidence * bins).astype(int), bins - 1)
    sums = np.bincount(groups, weights=right - confidence, minlength=bins)
    return float(np.abs(sums).sum() / max(len(actual), 1))


def mcnemar(actual: np.ndarray, one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Compare two classifiers by the exact test of McNemar 1947: int arrays (N,) of labels and of both predictions.

    difference: accuracy of `one` minus that of `other`, with `interval`, its 95 % confidence interval (Wald's, for
    paired proportions). only_one_right, only_other_right: rows that one classifier alone has right. p: the probability,
    two-sided, of a difference at least as large if each of these rows were equally likely to be of either kind.
    """
    from scipy.stats import binomtest  # takes a second to import

    right, other_right = one == actual, other == actual
    only_one, only_other = int((right & ~other_right).sum()), int((~right & other_right).sum())
    rows, discordant = len(actual), only_one + only_other
    difference = (only_one - only_other) / rows
    margin = 1.96 * math.sqrt(discordant - (only_one - only_other) ** 2 / rows) / rows
    return {
        "difference": difference,
        "interval": [max(difference - margin, -1.0), min(difference + margin, 1.0)],
        "only_one_right": only_one,
        "only_other_right": only_other,
        "p": float(binomtest(only_one, discordant).pvalue) if discordant else 1.0,
    }
