"""TF-IDF of words and pairs of words, and a linear classifier, as strong as scikit-learn makes them.

choose()    what a word is, and the C of the classifier, by accuracy on validation rows
fit()       train what was chosen: a pipeline, texts in, classes out

The rows to choose by and to train on are the caller's: one validation split, or folds and afterwards all rows.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from bilm import model_selection
from bilm.runtime.errors import UserError
from bilm.text.ngrams import NGRAMS
from bilm.text.tokenizer import Tokenizer

# What a word is: a token of this project's tokenizer, which changes the case after it has removed markup, or what is
# between blanks. Both keep marks and single letters, which scikit-learn's default drops.
WORDS: dict[str, dict[str, Any]] = {
    "tokenizer": {"tokenizer": Tokenizer().split, "lowercase": False},
    "blanks": {"tokenizer": str.split},
}
# By name: a function that builds a classifier for a C and a seed, and the C that a search begins at.
CLASSIFIERS: dict[str, tuple[Callable[[float, int], Any], float]] = {
    "svm": (lambda C, seed: LinearSVC(C=C, max_iter=10_000, random_state=seed), 1.0),
    # Each class against the rest, as in LinearSVC; a multinomial model takes many times longer here.
    "logistic": (
        lambda C, seed: OneVsRestClassifier(LogisticRegression(C=C, solver="liblinear", random_state=seed)),
        30.0,
    ),
}


@dataclass(frozen=True)
class Recipe:
    """What validation chose.

    kind: one of CLASSIFIERS; words: one of WORDS; C: one of model_selection.C_VALUES; accuracies: on
    validation, by (words, C), of all that were tried.
    """

    kind: str
    words: str
    C: float
    accuracies: dict[tuple[str, float], float]


def word_weights(words: str) -> TfidfVectorizer:
    """TF-IDF of words and pairs of words. words: one of WORDS."""
    return TfidfVectorizer(**{**NGRAMS["words"], **WORDS[words]})


def linear_model(kind: str, C: float, seed: int) -> Any:
    """A classifier of scikit-learn. kind: one of CLASSIFIERS."""
    build, _ = CLASSIFIERS[kind]
    return build(C, seed % 2**32)


def choose(
    kind: str, texts: Sequence[str], labels: np.ndarray, splits: Sequence[tuple[np.ndarray, np.ndarray]], seed: int
) -> Recipe:
    """Choose words and C by the mean accuracy over `splits`: (training rows, validation rows).

    kind: one of CLASSIFIERS. Everything is fitted on training rows alone, TF-IDF included. Raises UserError when
    training rows have only one class or no words.
    """

    # The search is done with one kind of words before it begins with the next: one at a time is kept.
    @lru_cache(maxsize=1)
    def vectors(words: str) -> list[tuple[Any, Any]]:
        result = []
        for training, validation in splits:
            weights = word_weights(words)
            x = weights.fit_transform(texts[row] for row in training)
            result.append((x, weights.transform(texts[row] for row in validation)))
        return result

    def accuracy(words: str, C: float) -> float:
        parts = zip(vectors(words), splits, strict=True)
        return statistics.mean(
            linear_model(kind, C, seed).fit(x, labels[training]).score(x_validation, labels[validation])
            for (x, x_validation), (training, validation) in parts
        )

    with _reject_untrainable_rows(labels[splits[0][0]]):
        return search(kind, accuracy)


def search(kind: str, accuracy: Callable[[str, float], float]) -> Recipe:
    """Choose words and C by `accuracy` (words, C) on validation rows. kind: one of CLASSIFIERS."""
    found = model_selection.search(list(WORDS), accuracy, CLASSIFIERS[kind][1])
    return Recipe(kind, found.candidate, found.C, found.accuracies)


def fit(recipe: Recipe, texts: Sequence[str], labels: np.ndarray, seed: int) -> Pipeline:
    """Fit TF-IDF and the classifier on all of `texts`. Raises UserError as `choose` does."""
    model = make_pipeline(word_weights(recipe.words), linear_model(recipe.kind, recipe.C, seed))
    with _reject_untrainable_rows(labels):
        return model.fit(texts, labels)


@contextmanager
def _reject_untrainable_rows(labels: np.ndarray) -> Iterator[None]:
    """Turn what scikit-learn cannot train on into a UserError. labels: of the training rows."""
    try:
        # One against the rest would accept a single class.
        if len(np.unique(labels)) < 2:
            raise ValueError("all of them have the same class")
        yield
    except ValueError as error:
        raise UserError(f"TF-IDF and a linear model cannot be trained on these {len(labels)} rows: {error}") from error
