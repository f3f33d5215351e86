"""Classes from a handful of labels: logistic regression on the vectors of texts, taught by texts without a label too.

Self-training: the texts that the classifier is surest of join its training rows with the class it gave them, at most
as many of each class, a few at first and more in each round. The vectors are those of a language model that read all
texts.
"""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

# Chosen on validation rows; LOG.md has the comparison.
COMPONENTS = 128
ROUNDS = 5
JOINING = 0.95  # share of the texts without a label that join in the last round at most
WEIGHT_OF_LABELS = 0.05  # of all labelled rows together, as a share of all rows that joined


def draw(labels: np.ndarray, rows: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """`per_class` of the `rows` of each class, at random: int64 (C * per_class,). Raises ValueError if there are fewer.

    labels: int (N,), of all rows.
    """
    random = np.random.default_rng([seed, per_class])
    members = [rows[labels[rows] == c] for c in np.unique(labels[rows])]
    return np.concatenate([random.choice(found, per_class, replace=False) for found in members])


def project(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Vectors (N, ...) on the principal components of those of `rows`, scaled to a variance of 1 on average."""
    flat = vectors.reshape(len(vectors), -1)
    components = min(COMPONENTS, flat.shape[1], len(rows))
    found = PCA(components, random_state=0).fit(flat[rows]).transform(flat)
    return found / found[rows].std()


def self_train(
    vectors: np.ndarray, labels: np.ndarray, labelled: np.ndarray, unlabelled: np.ndarray, strength: float
) -> LogisticRegression:
    """A classifier that learned the labels of the rows `labelled`, and what it made of the rows `unlabelled`.

    vectors: fp32 (N, D); labels: int (N,), of which those of `unlabelled` are not looked at; strength: C of the
    logistic regression.
    """
    # Each round begins where the one before ended: they find nearly the same.
    model = LogisticRegression(C=strength, max_iter=1000, warm_start=True).fit(vectors[labelled], labels[labelled])
    for done in range(1, ROUNDS + 1):
        probabilities = model.predict_proba(vectors[unlabelled])
        given = probabilities.argmax(1)
        rows, classes = [labelled], [labels[labelled]]
        for place, name in enumerate(model.classes_):
            sure = np.where(given == place, probabilities[:, place], 0.0)
            joining = round(len(unlabelled) * JOINING * done / ROUNDS / len(model.classes_))
            chosen = np.argsort(-sure, kind="stable")[: min(joining, int((sure > 0).sum()))]
            rows.append(unlabelled[chosen])
            classes.append(np.full(len(chosen), name))
        everything = np.concatenate(rows)
        weights = np.ones(len(everything))
        weights[: len(labelled)] = max(1.0, WEIGHT_OF_LABELS * (len(everything) - len(labelled)) / len(labelled))
        model.fit(vectors[everything], np.concatenate(classes), sample_weight=weights)
    return model


def scores(model: Any, x: Any, labels: np.ndarray, parts: Sequence[np.ndarray]) -> list[float]:
    """Accuracy of a scikit-learn classifier on each of the `parts`, which are rows of `x` and `labels`."""
    return [float((model.predict(x[rows]) == labels[rows]).mean()) for rows in parts]


def choose_strength(scored: Iterable[tuple[float, float, float]]) -> tuple[float, float, list[float]]:
    """Of (strength, accuracy on validation, accuracy on test) of several draws: the strength that is best on validation
    on average over the draws (the first of equals), that average, and its accuracies on test."""
    by_strength: dict[float, list[tuple[float, float]]] = {}
    for strength, *accuracies in scored:
        by_strength.setdefault(strength, []).append((accuracies[0], accuracies[1]))
    means = {strength: statistics.mean(v for v, _ in found) for strength, found in by_strength.items()}
    best = max(means, key=means.__getitem__)
    return best, means[best], [on_test for _, on_test in by_strength[best]]
