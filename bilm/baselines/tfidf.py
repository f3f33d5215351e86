"""TF-IDF of words and pairs of words, and a linear classifier."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from bilm.runtime.errors import UserError

# By name: a function that builds a classifier for a strength (C) and a seed, and the strengths to choose from.
CLASSIFIERS: dict[str, tuple[Callable[[float, int], Any], tuple[float, ...]]] = {
    "svm": (lambda C, seed: LinearSVC(C=C, random_state=seed), (0.03, 0.1, 0.3, 1.0)),
    # Each class against the rest, as in LinearSVC; a multinomial model takes many times longer here.
    "logistic": (
        lambda C, seed: OneVsRestClassifier(LogisticRegression(C=C, solver="liblinear", random_state=seed)),
        (1.0, 3.0, 10.0, 30.0),
    ),
}


def word_weights() -> TfidfVectorizer:
    """TF-IDF of words and pairs of words."""
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)


def fit_tfidf(
    kind: str, texts: Sequence[str], labels: np.ndarray, training: np.ndarray, validation: np.ndarray, seed: int
) -> tuple[Pipeline, dict[str, float]]:
    """Fit on the rows `training` with each strength, and choose the strength by accuracy on the rows `validation`.

    kind: one of CLASSIFIERS. Returns the best pipeline, and the validation accuracy by strength. Raises UserError when
    the training rows have only one class or no words.
    """
    build, strengths = CLASSIFIERS[kind]
    weights = word_weights()
    try:
        x = weights.fit_transform(texts[i] for i in training)
        x_validation = weights.transform(texts[i] for i in validation)
        models = {C: build(C, seed % 2**32).fit(x, labels[training]) for C in strengths}
    except ValueError as error:
        raise UserError(
            f"TF-IDF and a linear model cannot be trained on these {len(training)} rows: {error}"
        ) from error
    accuracies = {C: float((m.predict(x_validation) == labels[validation]).mean()) for C, m in models.items()}
    best = max(strengths, key=accuracies.__getitem__)
    return make_pipeline(weights, models[best]), {str(C): accuracy for C, accuracy in accuracies.items()}
