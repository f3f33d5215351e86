"""TF-IDF and a linear model: what validation chooses, what is trained, and what it reaches on public texts."""

import csv
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import StratifiedKFold

from bilm.baselines import tfidf
from bilm.baselines.tfidf import CLASSIFIERS, WORDS, Recipe, choose, fit, search
from bilm.model_selection import C_VALUES
from bilm.runtime.errors import UserError

REFUSED = r"^TF-IDF and a linear model cannot be trained on these \d rows: .*(the same class|empty vocabulary)"
START = CLASSIFIERS["svm"][1]


def halves(rows: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each half of the rows for training once, for validation once."""
    first, second = np.split(np.arange(rows), 2)
    return [(first, second), (second, first)]


@pytest.fixture
def noisy() -> tuple[list[str], np.ndarray]:
    """400 texts: a word tells the class in four of five, the others are noise."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    told = np.where(random.random(400) < 0.8, labels, 1 - labels)
    noise = random.integers(150, size=(400, 2))
    texts = [f"{'ab'[c]}{n % 9} word{x} word{y}" for n, (c, (x, y)) in enumerate(zip(told, noise, strict=True))]
    return texts, labels


@pytest.mark.parametrize("best", [0.001, 0.1, START, 30.0, 1000.0])
def test_the_search_widens_on_both_sides_until_the_best_C_is_inside(best):
    top, start = C_VALUES.index(best), C_VALUES.index(START)
    recipe = search("svm", lambda words, C: 1 - 0.01 * abs(C_VALUES.index(C) - top))
    assert best == recipe.C
    tried = {words: [s for w, s in recipe.accuracies if w == words] for words in WORDS}
    assert tried["tokenizer"] == [*C_VALUES[max(0, min(top, start) - 1) : max(top, start) + 2]]
    assert tried["blanks"] == [*C_VALUES[max(0, top - 1) : top + 2]], "it begins at the best of the first"


def test_of_equal_accuracies_the_C_nearest_to_the_start_is_chosen():
    """By the tokenizer from 0.03 to 0.3; between blanks at 0.1 alone."""
    equal = {("tokenizer", s) for s in C_VALUES if 0.03 <= s <= 0.3} | {("blanks", 0.1)}
    recipe = search("svm", lambda *tried: 0.9 if tried in equal else 0.5)
    assert (recipe.words, recipe.C) == ("tokenizer", 0.3)
    assert search("svm", lambda *tried: 0.9).C == START


# By kind of words: a text of class n % 2 that only these tell from one of the other class.
TEXT = {
    "tokenizer": lambda n: f"so{n}{'!?'[n % 2]}",
    "blanks": lambda n: ("great!", "great !")[n % 2],
}


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("words", WORDS)
def test_what_a_word_is_is_chosen_on_validation(kind, words):
    texts, labels = [*map(TEXT[words], range(40))], np.arange(40) % 2
    recipe = choose(kind, texts, labels, halves(40), seed=0)
    assert recipe.words == words and recipe.accuracies[recipe.words, recipe.C] == 1
    assert max(accuracy for (other, _), accuracy in recipe.accuracies.items() if other != words) < 1
    assert fit(recipe, texts, labels, seed=0).predict(texts).tolist() == labels.tolist()


@pytest.mark.parametrize("words", WORDS)
def test_marks_and_single_letters_are_words(words):
    model = fit(Recipe("svm", words, 1.0, {}), ["You say X ?", "You say Y !"], np.array([0, 1]), seed=0)
    assert {"x", "y", "?", "!", "say x", "x ?"} <= {*model[0].vocabulary_}


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_accuracies_are_means_over_splits_of_models_of_training_rows(kind, noisy):
    texts, labels = noisy
    splits = [(np.arange(300), np.arange(300, 400)), (np.arange(50, 400), np.arange(50))]
    recipe = choose(kind, texts, labels, splits, seed=0)
    assert len(set(recipe.accuracies.values())) > 1
    for (words, C), accuracy in recipe.accuracies.items():
        figures = []
        for training, validation in splits:
            one = Recipe(kind, words, C, {})
            model = fit(one, [texts[row] for row in training], labels[training], seed=0)
            figures.append(np.mean(model.predict([texts[row] for row in validation]) == labels[validation]))
        assert accuracy == pytest.approx(np.mean(figures))


def test_weights_are_those_of_the_training_rows_alone(noisy, monkeypatch):
    fitted = []

    class Recording(TfidfVectorizer):
        def fit_transform(self, raw_documents, y=None):
            fitted.append([*raw_documents])
            return super().fit_transform(fitted[-1], y)

    monkeypatch.setattr(tfidf, "TfidfVectorizer", Recording)
    texts, labels = noisy
    choose("svm", texts, labels, halves(400), seed=0)
    assert fitted == [texts[:200], texts[200:]] * len(WORDS), "once for each split and kind of words"


@pytest.mark.parametrize(("kind", "method"), [("svm", "decision_function"), ("logistic", "predict_proba")])
@pytest.mark.parametrize("words", WORDS)
def test_a_pipeline_can_be_saved(kind, method, words, noisy):
    texts, labels = noisy
    model = fit(Recipe(kind, words, 1.0, {}), texts, np.array(["sport", "world", "business"])[labels], seed=2**40)
    again = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert np.array_equal(getattr(again, method)(texts), getattr(model, method)(texts))
    assert again.predict(["a1 a2"]).tolist() == ["sport"]


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("texts", [["a word"] * 8, [" "] * 8])
def test_rows_of_one_class_or_without_words_are_refused_in_one_line(kind, texts):
    labels = np.arange(8) % (2 if texts[0] == " " else 1)
    with pytest.raises(UserError, match=REFUSED):
        choose(kind, texts, labels, halves(8), seed=0)
    with pytest.raises(UserError, match=REFUSED):
        fit(Recipe(kind, "blanks", 1.0, {}), texts, labels, seed=0)


@pytest.mark.real_data
@pytest.mark.skipif("TEXTS_DIR" not in os.environ, reason="TEXTS_DIR is not set")
@pytest.mark.parametrize(
    ("corpus", "accuracy"), [("trec", 0.912), ("mr", 0.772), pytest.param("r8", 0.978, marks=pytest.mark.slow)]
)
def test_it_is_as_strong_as_scikit_learn_makes_it(corpus, accuracy):
    """Chosen by five folds and trained on all rows; the figures are those of a linear SVM that was set up by hand."""

    def read(split: str) -> tuple[list[str], np.ndarray]:
        with (Path(os.environ["TEXTS_DIR"]) / corpus / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            rows = [*csv.DictReader(file)]
        return [row["text"] for row in rows], np.array([row["label"] for row in rows])

    texts, labels = read("train")
    folds = [*StratifiedKFold(5, shuffle=True, random_state=0).split(texts, labels)]
    model = fit(choose("svm", texts, labels, folds, seed=0), texts, labels, seed=0)
    assert model.score(*read("test")) > accuracy - 0.006
