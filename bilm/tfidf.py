"""TF-IDF of words and pairs of words, and a linear SVM: what a classifier of news takes a dozen seconds for."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from bilm.errors import UserError

# Strengths of the SVM that validation chooses from.
STRENGTHS = (0.03, 0.1, 0.3, 1.0)


def fit_tfidf_svm(
    texts: Sequence[str], labels: np.ndarray, training: np.ndarray, validation: np.ndarray, seed: int
) -> tuple[Pipeline, dict[str, float]]:
    """A pipeline learned on the rows `training`, with the strength that does best on the rows `validation`.

    Also returns the accuracy on validation by strength. Raises UserError where there is nothing to tell apart.
    """
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    try:
        known = words.fit_transform(texts[i] for i in training)
        asked = words.transform(texts[i] for i in validation)
        models = {C: LinearSVC(C=C, random_state=seed % 2**32).fit(known, labels[training]) for C in STRENGTHS}
    except ValueError as error:
        raise UserError(f"TF-IDF and a linear SVM cannot be trained on these {len(training)} rows: {error}") from error
    accuracies = {C: float((model.predict(asked) == labels[validation]).mean()) for C, model in models.items()}
    best = max(STRENGTHS, key=accuracies.__getitem__)
    return make_pipeline(words, models[best]), {str(C): accuracy for C, accuracy in accuracies.items()}
