"""Sentence vectors, and ELMoVectorizer in scikit-learn."""

import pickle
import shutil
import warnings
from functools import cache, partial

import numpy as np
import pytest
from conftest import SAMPLE
from sklearn.base import clone
from sklearn.exceptions import SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data

from bilm import ELMo, ELMoVectorizer, TextClassifier, elmo_tfidf_union
from bilm.checkpoints.model_format import save_bilm
from bilm.runtime.errors import UserError
from bilm.text.ag_news import read_ag_news
from bilm.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def path(trained_bilm):
    return str(trained_bilm)


def test_sentence_vectors_are_the_means_of_the_words(elmo, texts):
    words = elmo.embed(texts)
    for layers, chosen in (((0,), [0]), ((2, 0), [2, 0]), ((-1,), [2]), (None, [1, 2])):
        results = elmo.sentence_vectors(texts, layers)
        expected = np.stack([np.concatenate([vectors[j].mean(0) for j in chosen]) for vectors in words])
        np.testing.assert_allclose(results, expected, atol=1e-6)
    np.testing.assert_allclose(elmo.sentence_vectors(texts[2:3]), elmo.sentence_vectors(texts)[2:3], atol=1e-6)
    assert np.isfinite(elmo.sentence_vectors([""])).all() and elmo.sentence_vectors([""]).any()
    assert elmo.sentence_vectors([]).shape == (0, 2 * elmo.output_dim)
    assert np.array_equal(elmo.sentence_vectors([["Rain", "."]]), elmo.sentence_vectors(["Rain."]))
    with pytest.raises(IndexError):
        elmo.sentence_vectors(texts, [3])


def test_vectorizer_by_the_conventions_of_scikit_learn(path, elmo, texts):
    vectorizer = ELMoVectorizer(path)
    assert vectorizer.get_params() == {"path": path, "layers": None, "device": "cpu"}
    vectors = vectorizer.fit_transform(texts)
    assert np.array_equal(vectors, elmo.sentence_vectors(texts))
    assert np.array_equal(clone(vectorizer).transform(iter(texts)), vectors)
    assert np.array_equal(clone(vectorizer).fit_transform(iter(texts)), vectors)
    copied = pickle.dumps(vectorizer)
    # Earlier versions had the class in bilm.vectorizer.
    earlier = pickle.dumps(ELMoVectorizer(), protocol=0).replace(b"bilm.inference.", b"bilm.")
    assert isinstance(pickle.loads(earlier), ELMoVectorizer)  # noqa: S301
    assert len(copied) < 1000, "without weights"
    assert np.array_equal(pickle.loads(copied).transform(texts), vectors)  # noqa: S301
    vectorizer.set_params(layers=(0,))
    assert np.array_equal(vectorizer.transform(texts), elmo.sentence_vectors(texts, (0,)))
    assert np.array_equal(vectorizer.fit(X=texts, y=None).transform(X=texts), vectorizer.transform(texts))
    with pytest.raises(UserError, match="there is no"):
        ELMoVectorizer("nowhere.pt").fit(texts)
    names = vectorizer.get_feature_names_out()
    assert len(names) == elmo.output_dim and names[0] == "e0_0"


class OnNumbers(ELMoVectorizer):
    """scikit-learn's checks use tables of numbers, and skip estimators of texts: here each number is a word."""

    def fit(self, X, y=None):
        return super().fit(self._words(X, reset=True))

    def transform(self, X):
        return super().transform(self._words(X, reset=False))

    def _words(self, X, reset):
        return [[f"{value:.2f}" for value in row] for row in validate_data(self, X, reset=reset)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


# Name of a check -> why it cannot pass.
EXPECTED_TO_FAIL: dict[str, str] = {}


@pytest.mark.parametrize("estimator", [ELMoVectorizer, OnNumbers])
def test_the_checks_of_scikit_learn(path, estimator, monkeypatch):
    monkeypatch.setattr("bilm.inference.elmo.ELMo.load", cache(ELMo.load))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        results = check_estimator(estimator(path), on_fail=None, expected_failed_checks=EXPECTED_TO_FAIL)
    assert {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"} == {}
    assert estimator is ELMoVectorizer or sum(result["status"] == "passed" for result in results) > 40


def test_in_a_pipeline_and_a_grid_search(path):
    labels, texts = zip(*read_ag_news(SAMPLE / "train.csv", 80), strict=True)
    pipeline = make_pipeline(ELMoVectorizer(path), LogisticRegression(max_iter=1000))
    grid = {"elmovectorizer__layers": [(0,), None], "logisticregression__C": [0.1, 10.0]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(list(texts), labels)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert (search.predict(list(texts)) == np.array(labels)).mean() > 0.4


def test_a_union_with_tfidf_gives_both_the_same_weight(path):
    labels, texts = zip(*read_ag_news(SAMPLE / "train.csv", 80), strict=True)
    union = elmo_tfidf_union(path).fit(list(texts))
    names, matrix = union.get_feature_names_out(), union.transform(list(texts))
    deep = np.array([name.startswith("elmo__") for name in names])
    for part in (matrix[:, deep], matrix[:, ~deep]):
        np.testing.assert_allclose(np.sqrt(part.multiply(part).sum(1)), 1.0, rtol=1e-5)
    # Decorrelated before they are scaled: each component tells something else.
    components = union.transformer_list[0][1][:-1].transform(list(texts))
    np.testing.assert_allclose(np.cov(components.T), np.eye(components.shape[1]), atol=1e-3)
    assert len(make_pipeline(union, LinearSVC()).fit(list(texts), labels).predict(["Stocks fell."])) == 1


def test_the_union_reads_words_as_the_language_model_does_and_every_form_of_a_list(path):
    texts = ["The coach RESIGNED.", "Stocks fell.", "It's over, he said."] * 4
    union = elmo_tfidf_union(path)
    expected = union.fit_transform(texts).toarray()
    terms = {name.removeprefix("tfidf__") for name in union.get_feature_names_out()}
    assert {"coach", "resigned", ".", "stocks fell", "it 's"} <= terms and "resigned." not in terms
    tokenizer = Tokenizer()
    forms = [iter(texts), np.array(texts)[:, None], [tokenizer.split(text) for text in texts]]
    for form in forms:
        np.testing.assert_allclose(clone(union).fit_transform(form).toarray(), expected, atol=1e-4)
    with pytest.raises(TypeError, match="item 1"):
        union.transform(["a", None])


def test_a_pickle_is_refused_where_its_weights_were_replaced(path, tmp_path, bilm, vocabulary):
    """A regression on the vectors of one language model would answer anything on those of another."""
    file = tmp_path / "bilstm.pt"
    shutil.copy(path, file)
    vectorizer = ELMoVectorizer(str(file)).fit(["a"])
    pickled, expected = pickle.dumps(vectorizer), vectorizer.transform(["a text"])
    unpickle = partial(pickle.loads, pickled)
    np.testing.assert_array_equal(unpickle().transform(["a text"]), expected)
    save_bilm(file, bilm, vocabulary, ELMo.load(path).info)
    with pytest.raises(UserError, match="other weights"):
        unpickle().transform(["a text"])
    assert unpickle().fit(["a"]).transform(["a text"]).shape != expected.shape
    other = unpickle().set_params(path=path)
    np.testing.assert_array_equal(other.transform(["a text"]), expected)


def test_what_cannot_be_loaded_is_said(path):
    with pytest.raises(UserError, match="name the options"):
        ELMo.load(weights="weights.hdf5")
    for load in (ELMo.load, TextClassifier.load):
        with pytest.raises(UserError, match="device 'nonsense'"):
            load(path, device="nonsense")
        assert load(path, device="auto").device.type in ("cpu", "cuda")
