"""TF-IDF of words and pairs of words, and a linear classifier: what takes a dozen seconds for news."""

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from bilm.runtime.errors import UserError


def _logistic(C: float, seed: int) -> OneVsRestClassifier:
    """One class against the rest, as LinearSVC does it; all classes at once take many times longer here."""
    return OneVsRestClassifier(LogisticRegression(C=C, solver="liblinear", random_state=seed))


# By name: what makes a classifier of a strength (C) and a seed, and the strengths that validation chooses from.
CLASSIFIERS: dict[str, tuple[Callable, tuple[float, ...]]] = {
    "svm": (lambda C, seed: LinearSVC(C=C, random_state=seed), (0.03, 0.1, 0.3, 1.0)),
    "logistic": (_logistic, (1.0, 3.0, 10.0, 30.0)),
}


def word_weights() -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)


def fit_tfidf(
    kind: str, texts: Sequence[str], labels: np.ndarray, training: np.ndarray, validation: np.ndarray, seed: int
) -> tuple[Pipeline, dict[str, float]]:
    """A pipeline learned on the rows `training`, with the strength that does best on the rows `validation`.

    kind: one of CLASSIFIERS. Also returns the accuracy on validation by strength. Raises UserError where there is
    nothing to tell apart.
    """
    make, strengths = CLASSIFIERS[kind]
    words = word_weights()
    try:
        known = words.fit_transform(texts[i] for i in training)
        asked = words.transform(texts[i] for i in validation)
        models = {C: make(C, seed % 2**32).fit(known, labels[training]) for C in strengths}
    except ValueError as error:
        raise UserError(
            f"TF-IDF and a linear model cannot be trained on these {len(training)} rows: {error}"
        ) from error
    accuracies = {C: float((model.predict(asked) == labels[validation]).mean()) for C, model in models.items()}
    best = max(strengths, key=accuracies.__getitem__)
    return make_pipeline(words, models[best]), {str(C): accuracy for C, accuracy in accuracies.items()}
