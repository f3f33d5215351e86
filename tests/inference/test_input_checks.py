"""Which inputs the library accepts as texts, and its messages about others: the same in every method."""

import datetime

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from bilm import ELMoVectorizer, TextClassifier
from bilm.inference.input_checks import check_text, check_texts

TEXTS = ["Stocks fell.", "Rain.", ""]
WORDS = [["Stocks", "fell", "."], ["Rain"], []]


class Table:
    """Behaves as a DataFrame with one column: has a shape, converts to an array, and iterates over column names."""

    shape = (3, 1)
    columns = ("text",)

    def __array__(self, dtype=None, copy=None):
        return np.array(TEXTS, dtype=object)[:, None]

    def __iter__(self):
        return iter(self.columns)


@pytest.mark.parametrize(
    "inputs",
    [
        TEXTS,
        tuple(TEXTS),
        iter(TEXTS),
        dict.fromkeys(TEXTS).keys(),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array(TEXTS)[:, None],
        np.array(TEXTS, dtype=object)[:, None],
        Table(),
    ],
)
def test_texts(inputs):
    assert check_texts(inputs) == TEXTS


def test_lists_of_words():
    assert check_texts(WORDS) == WORDS == check_texts([tuple(WORDS[0]), iter(WORDS[1]), np.array([], dtype=str)])
    column = np.empty((3, 1), dtype=object)
    column[:, 0] = WORDS
    assert check_texts(column) == WORDS
    assert check_texts([]) == check_texts(np.zeros((0, 1), dtype=object)) == []
    assert check_texts(["Rain.", ["Rain", "."]]) == ["Rain.", ["Rain", "."]]
    assert check_text("Rain.") == "Rain." and check_text(("Rain", ".")) == ["Rain", "."]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("Rain.", r"is expected, not one str; for one text: \[text\]"),
        (b"Rain.", r"not b'Rain.' \(bytes\)"),
        (None, r"not None \(NoneType\)"),
        (7, r"not 7 \(int\)"),
        (np.array("Rain."), r"not of type ndarray of shape \(\)"),
        ({"text": TEXTS}, "not of type dict"),
        (set(TEXTS), "not of type set"),
        (np.array([TEXTS, TEXTS]), r"not of type ndarray of shape \(2, 3\); of a table give one column"),
        (np.zeros((2, 0)), r"of shape \(2, 0\)"),
        (np.zeros((2, 1, 1)), r"of shape \(2, 1, 1\)"),
        (csr_array(np.ones((3, 1))), r"of shape \(3, 1\)"),
        (np.array([1.5, 2]), r"item 0 .*is .*1\.5.* \(float64\); a text"),
        (torch.tensor([1, 2]), "item 0 .*is of type Tensor; a text"),
    ],
)
def test_other_types_are_refused(inputs, message):
    with pytest.raises(TypeError, match=message) as error:
        check_texts(inputs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (None, r"item 1 \(counted from 0\) is None \(NoneType\); a text \(str\) or a list of its words"),
        (float("nan"), r"item 1 .* is nan \(float\)"),
        (True, r"item 1 .* is True \(bool\)"),
        (b"x" * 10**6, r"item 1 .* is b'xxx.*\.\.\..*' \(bytes\)"),
        (datetime.date(2004, 1, 1), "item 1 .* is of type date"),
        ({"text": "Rain."}, "item 1 .* is of type dict"),
        ({"Rain."}, "item 1 .* is of type set"),
        (np.array("Rain."), "item 1 .* is of type ndarray"),
        (np.array([["Rain."]]), "item 1 .* is of type ndarray"),
        (["Rain", None], r"word 1 \(counted from 0\) of item 1 .* is None \(NoneType\); a str is expected"),
        (["Rain", ["."]], r"word 1 .* of item 1 .* is of type list"),
        (["Rain fell."], r"item 1 .* is a list of texts"),
        (("Rain fell.", "It stopped."), r"item 1 .* is a list of texts"),
        (np.array(["Rain fell."]), r"item 1 .* is a list of texts"),
    ],
)
def test_all_methods_have_the_same_message(elmo, trained_bilm, item, message):
    classifier, vectorizer = TextClassifier.load(trained_bilm), ELMoVectorizer(str(trained_bilm))
    methods = (elmo.embed, elmo.sentence_vectors, classifier.predict, classifier.predict_proba)
    messages = set()
    for method in (*methods, vectorizer.fit, vectorizer.transform, vectorizer.fit_transform):
        with pytest.raises(TypeError, match=message) as error:
            method(["Rain.", item])
        messages.add(str(error.value))
    assert len(messages) == 1
    for method in (classifier.explain, classifier.words, elmo.words):
        with pytest.raises(TypeError, match=r"the text is "):
            method(item)


def test_a_column_of_texts_is_the_texts(elmo, trained_bilm):
    classifier, vectorizer = TextClassifier.load(trained_bilm), ELMoVectorizer(str(trained_bilm))
    column = np.array(TEXTS)[:, None]
    assert np.array_equal(elmo.sentence_vectors(column), elmo.sentence_vectors(TEXTS))
    assert np.array_equal(vectorizer.fit_transform(column), vectorizer.transform(TEXTS))
    assert np.array_equal(classifier.predict_proba(column), classifier.predict_proba(TEXTS))
    words = [elmo.words(text) for text in TEXTS]
    assert np.array_equal(classifier.predict_proba(words), classifier.predict_proba(TEXTS))
    assert classifier.explain(words[0]).words == classifier.explain(TEXTS[0]).words


def test_tables_of_pandas(elmo, trained_bilm):
    pandas = pytest.importorskip("pandas")
    from sklearn.compose import make_column_transformer

    vectorizer = ELMoVectorizer(str(trained_bilm))
    table = pandas.DataFrame({"text": TEXTS, "number": [1, 2, 3]})
    for column in (table["text"], table[["text"]], table["text"].astype("category"), table["text"].astype("string")):
        assert check_texts(column) == TEXTS
    expected = vectorizer.fit_transform(TEXTS)
    for column in ("text", ["text"]):
        result = make_column_transformer((vectorizer, column)).fit_transform(table)
        assert np.array_equal(result, expected)
    with pytest.raises(TypeError, match=r"not of type DataFrame of shape \(3, 2\); of a table give one column"):
        elmo.embed(table)
    with pytest.raises(TypeError, match=r"item 1 .* is of type NAType"):
        check_texts(pandas.Series(["Rain.", None], dtype="string"))
    with pytest.raises(TypeError, match=r"item 1 .* is (nan|None)"):
        check_texts(pandas.DataFrame({"text": ["Rain.", None]}))


def test_layers_and_classes_that_there_are_not(elmo, trained_bilm):
    for layers, error, message in (
        (1, ValueError, r"layers is 1; a list"),
        ((), ValueError, "a list of numbers"),
        ([5], IndexError, "no layer 5: the layers are 0 to 2"),
    ):
        for method in (elmo.sentence_vectors, ELMoVectorizer(str(trained_bilm), layers).fit):
            with pytest.raises(error, match=message):
                method(TEXTS, *([layers] if method == elmo.sentence_vectors else []))
    assert elmo.sentence_vectors(TEXTS, np.array([-1])).shape == (3, elmo.output_dim)
    with pytest.raises(ValueError, match="no class 'nope'; the classes are 'World'"):
        TextClassifier.load(trained_bilm).explain("Rain.", "nope")
