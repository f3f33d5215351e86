import re

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from bilm.evaluation.scoring import evaluate_language_model
from bilm.evaluation.tables import classifier_table
from bilm.metrics import ClassCounts, classification_figures, perplexity
from bilm.text.batching import Batch, iterate_batches
from bilm.text.vocabulary import BOS, EOS


@pytest.fixture
def labels_and_predictions():
    """Of seven classes, one never occurs, one is never predicted, and one does neither."""
    generator = np.random.default_rng(0)
    actual, predicted = generator.integers(0, 6, 300), generator.integers(0, 6, 300)
    actual[actual == 4] = 1
    predicted[predicted == 5] = 2
    return actual, predicted


@pytest.mark.parametrize("average", ["macro", "weighted"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_scores_equal_scikit_learn(labels_and_predictions, average):
    counts = ClassCounts(7)
    for part in range(3):  # in batches of different sizes
        rows = slice(part * 130, part * 130 + 130)
        counts.add(labels_and_predictions[0][rows], labels_and_predictions[1][rows])
    scores = counts.scores()
    expected = sklearn_metrics.precision_recall_fscore_support(
        *labels_and_predictions, average=average, zero_division=0
    )
    suffix = "_weighted" if average == "weighted" else ""
    assert [scores[f"{name}{suffix}"] for name in ("precision", "recall", "f1")] == pytest.approx(expected[:3])
    assert scores["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(*labels_and_predictions))
    assert (scores["classes"], scores["undefined"]) == (6, 2)


def test_perplexity():
    assert perplexity(6 * np.log(50), 6) == pytest.approx(50)
    assert perplexity(1e6, 10) == perplexity(700, 1) == np.inf
    assert perplexity(699.5, 1) == pytest.approx(np.exp(699.5))


def test_scores_of_a_classifier_by_hand():
    """Class d neither occurs nor is predicted, and is not in the averages; e is never predicted."""
    actual, predicted = np.array([0, 0, 1, 2, 2, 2, 4]), np.array([0, 1, 1, 2, 2, 0, 2])
    figures = classification_figures(actual, predicted, list("abcde"))
    per_class = figures.pop("per_class")
    assert [row["class"] for row in per_class] == list("abcde")
    assert [row["support"] for row in per_class] == [2, 1, 3, 0, 1]
    assert [row["precision"] for row in per_class] == pytest.approx([1 / 2, 1 / 2, 2 / 3, 0, 0])
    assert [row["recall"] for row in per_class] == pytest.approx([1 / 2, 1, 2 / 3, 0, 0])
    assert [row["f1"] for row in per_class] == pytest.approx([1 / 2, 2 / 3, 2 / 3, 0, 0])
    matrix = figures.pop("confusion_matrix")
    assert matrix == [[1, 1, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 2, 0, 0], [0] * 5, [0, 0, 1, 0, 0]]
    assert figures == pytest.approx(
        {
            "accuracy": 4 / 7,
            "precision": (1 / 2 + 1 / 2 + 2 / 3) / 4,
            "precision_weighted": (2 / 2 + 1 / 2 + 3 * 2 / 3) / 7,
            "recall": (1 / 2 + 1 + 2 / 3) / 4,
            "recall_weighted": 4 / 7,
            "f1": (1 / 2 + 2 / 3 + 2 / 3) / 4,
            "f1_weighted": (2 / 2 + 2 / 3 + 3 * 2 / 3) / 7,
            "classes": 4,
            "undefined": 1,
            "rows": 7,
        }
    )


def test_a_classifier_is_reported_as_by_scikit_learn():
    actual, predicted = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    names = ["World", "Sports", "\x1b[31m"]
    text = classifier_table("trainable", classification_figures(actual, predicted, [*names, "Rare"]))
    report = sklearn_metrics.classification_report(actual, predicted, target_names=[*names[:2], "�[31m"], digits=4)
    first, rest = text.split("\n", 1)
    assert first == "classifier trainable: accuracy 0.6667" and rest.startswith(report)
    assert re.search(r"\nWorld +1 +1 +0 +0\nSports +0 +1 +0 +0\n", rest)
    assert text.endswith("Note: Rare: no prediction; the precision counts as 0.")


def test_language_model_scores_equal_scikit_learn(bilm, vocabulary, texts):
    """Computed from the log-probabilities of each text by itself, without padding."""
    encoded = vocabulary.encode(texts)
    result = evaluate_language_model(
        bilm,
        vocabulary,
        iterate_batches(encoded, np.arange(5), 40),
        torch.device("cpu"),
        lambda: torch.autocast("cpu", enabled=False),
    )
    size = len(vocabulary)
    for direction in ("forward", "backward"):
        actual, log_probs = [], []
        for row in range(5):
            ids = torch.tensor(encoded.ids[encoded.offsets[row] : encoded.offsets[row + 1]].tolist())
            with torch.no_grad():
                top = bilm.encode(Batch(ids[None], torch.tensor([len(ids)])))[-1][0]
            states, targets = (top[:-1, :7], ids[1:]) if direction == "forward" else (top[1:, 7:], ids[:-1])
            log_probs.append(bilm.softmax.log_probs(states).detach().numpy())
            actual.append(targets.numpy())
        truth, scores = np.concatenate(actual), np.concatenate(log_probs)
        predicted = scores.argmax(-1)
        figures = result[direction]
        assert figures["targets"] == len(truth) == int((encoded.lengths - 1).sum())
        assert figures["perplexity"] == pytest.approx(np.exp(-scores[np.arange(len(truth)), truth].mean()), rel=1e-5)
        assert figures["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, predicted))
        assert figures["top5_accuracy"] == pytest.approx(
            sklearn_metrics.top_k_accuracy_score(truth, scores, k=5, labels=range(size))
        )
        for average in ("macro", "weighted"):
            expected = sklearn_metrics.precision_recall_fscore_support(
                truth, predicted, average=average, zero_division=0
            )
            names = [f"{name}_{average}" for name in ("precision", "recall", "f1")]
            assert [figures[name] for name in names] == pytest.approx(expected[:3])
        words = [vocabulary.ids[word] for word in figures["confusion_words"]]
        assert words == list(range(4, 24)) and not {BOS, EOS} & set(words)
        expected = sklearn_metrics.confusion_matrix(truth, predicted, labels=range(size))[words]
        matrix = np.array(figures["confusion_matrix"])
        assert np.array_equal(matrix[:, :-1], expected[:, words])
        assert np.array_equal(matrix.sum(1), expected.sum(1))
