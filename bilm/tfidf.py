"""TF-IDF of words and pairs of words, and a linear SVM: what a classifier of news takes a dozen seconds for."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

# Strengths of the SVM that validation chooses from.
STRENGTHS = (0.03, 0.1, 0.3, 1.0)


def tfidf_svm(strength: float, seed: int) -> Pipeline:
    """A scikit-learn pipeline: fit(texts, labels), predict(texts)."""
    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, strip_accents="unicode"),
        LinearSVC(C=strength, random_state=seed),
    )


def fit_tfidf_svm(
    texts: Sequence[str], labels: np.ndarray, training: np.ndarray, validation: np.ndarray, seed: int
) -> tuple[Pipeline, dict[str, float]]:
    """Learned on the rows `training`, with the strength that does best on the rows `validation`.

    Also returns the accuracy on validation by strength.
    """
    known, asked = [texts[i] for i in training], [texts[i] for i in validation]
    accuracies, best = {}, None
    for strength in STRENGTHS:
        model = tfidf_svm(strength, seed).fit(known, labels[training])
        accuracy = float((model.predict(asked) == labels[validation]).mean())
        if best is None or accuracy > max(accuracies.values()):
            best = model
        accuracies[str(strength)] = accuracy
    assert best is not None
    return best, accuracies
