"""Classification with few labels: logistic regression on the vectors of texts, and self-training on unlabelled texts.

Self-training: the texts that the classifier is most confident about join its training rows with their predicted
classes, at most the same number for each class, and more in each round. The vectors come from a language model that
was trained on all texts.
"""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

# Chosen on validation rows; docs/log.md has the comparison.
COMPONENTS = 128
ROUNDS = 5
JOINING = 0.95  # the largest fraction of the unlabelled texts that join in the last round
WEIGHT_OF_LABELS = 0.05  # of all labelled rows together, as a fraction of the number of rows that joined


def draw(labels: np.ndarray, rows: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Draw `per_class` of the `rows` of each class: int64 (C * per_class,). Raises ValueError if there are fewer.

    labels: int (N,), of all rows.
    """
    random = np.random.default_rng([seed, per_class])
    classes = [rows[labels[rows] == c] for c in np.unique(labels[rows])]
    return np.concatenate([random.choice(members, per_class, replace=False) for members in classes])


def project(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Project vectors (N, ...) on the principal components of those of `rows`, scaled to a mean variance of 1."""
    flat = vectors.reshape(len(vectors), -1)
    components = min(COMPONENTS, flat.shape[1], len(rows))
    projected = PCA(components, random_state=0).fit(flat[rows]).transform(flat)
    return projected / projected[rows].std()


def self_train(
    vectors: np.ndarray, labels: np.ndarray, labelled: np.ndarray, unlabelled: np.ndarray, C: float
) -> LogisticRegression:
    """Fit on the labels of the rows `labelled`, then on its own predictions for the rows `unlabelled`, too.

    vectors: fp32 (N, D); labels: int (N,), which are not read for `unlabelled`; C: of the logistic regression.
    """
    # Each round starts from the previous solution, which is close to its own.
    model = LogisticRegression(C=C, max_iter=1000, warm_start=True).fit(vectors[labelled], labels[labelled])
    for done in range(1, ROUNDS + 1):
        probabilities = model.predict_proba(vectors[unlabelled])
        predicted = probabilities.argmax(1)
        rows, classes = [labelled], [labels[labelled]]
        most = round(len(unlabelled) * JOINING * done / ROUNDS / len(model.classes_))
        for column, name in enumerate(model.classes_):
            confidence = np.where(predicted == column, probabilities[:, column], 0.0)
            chosen = np.argsort(-confidence, kind="stable")[: min(most, int((confidence > 0).sum()))]
            rows.append(unlabelled[chosen])
            classes.append(np.full(len(chosen), name))
        training = np.concatenate(rows)
        weights = np.ones(len(training))
        weights[: len(labelled)] = max(1.0, WEIGHT_OF_LABELS * (len(training) - len(labelled)) / len(labelled))
        model.fit(vectors[training], np.concatenate(classes), sample_weight=weights)
    return model


def scores(model: Any, x: Any, labels: np.ndarray, parts: Sequence[np.ndarray]) -> list[float]:
    """Accuracy of a scikit-learn classifier on each of the `parts`, arrays of rows of `x` and `labels`."""
    return [float((model.predict(x[rows]) == labels[rows]).mean()) for rows in parts]


def choose_C(scored: Iterable[tuple[float, float, float]]) -> tuple[float, float, list[float]]:
    """Choose the C with the best mean validation accuracy over several draws, the first if several are equal.

    scored: (C, validation accuracy, test accuracy) of each draw. Returns the best C, its mean validation
    accuracy, and its test accuracies.
    """
    by_C: dict[float, list[tuple[float, float]]] = {}
    for C, *accuracies in scored:
        by_C.setdefault(C, []).append((accuracies[0], accuracies[1]))
    means = {C: statistics.mean(v for v, _ in pairs) for C, pairs in by_C.items()}
    best = max(means, key=means.__getitem__)
    return best, means[best], [on_test for _, on_test in by_C[best]]
