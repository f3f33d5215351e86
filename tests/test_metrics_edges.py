"""Counts without a denominator, and perplexities at the end of what a float holds."""

import math

import numpy as np
import pytest

from bilm.metrics import ClassCounts, classification_figures, mcnemar, perplexity


def test_no_target_is_a_score_of_zero():
    scores = ClassCounts(3).scores()
    assert scores.pop("classes") == scores.pop("undefined") == 0
    assert set(scores) == {"accuracy", *(f"{n}{s}" for n in ("precision", "recall", "f1") for s in ("", "_weighted"))}
    assert set(scores.values()) == {0.0}


def test_counts_add_up_over_batches():
    counts = ClassCounts(4)
    counts.add(np.array([0, 1, 1]), np.array([0, 1, 2]))
    counts.add(np.array([1]), np.array([1]))
    assert counts.actual.tolist() == [1, 3, 0, 0]
    assert counts.predicted.tolist() == [1, 2, 1, 0]
    assert counts.hits.tolist() == [1, 2, 0, 0]


def test_scores_by_hand():
    """One class right once of three and predicted twice, one never right; a third is predicted and does not occur."""
    counts = ClassCounts(4)
    counts.add(np.array([0, 0, 0, 1]), np.array([0, 2, 2, 0]))
    assert counts.scores() == pytest.approx(
        {
            "accuracy": 1 / 4,
            "precision": (1 / 2 + 0 + 0) / 3,
            "precision_weighted": 3 * (1 / 2) / 4,
            "recall": (1 / 3 + 0 + 0) / 3,
            "recall_weighted": 3 * (1 / 3) / 4,
            "f1": (2 / 5 + 0 + 0) / 3,
            "f1_weighted": 3 * (2 / 5) / 4,
            "classes": 3,
            "undefined": 2,
        }
    )


def test_one_target_has_scores():
    counts = ClassCounts(2)
    counts.add(np.array([1]), np.array([1]))
    assert counts.scores()["accuracy"] == counts.scores()["f1"] == counts.scores()["recall_weighted"] == 1.0
    assert counts.scores()["classes"] == 1 and counts.scores()["undefined"] == 0


def test_perplexity_is_infinite_where_a_float_ends():
    assert perplexity(699.5 * 3, 3) == pytest.approx(math.exp(699.5))
    assert perplexity(700.0, 1) == math.inf == perplexity(1000.0, 1)
    assert perplexity(0.0, 5) == 1.0


def test_the_better_classifier_comes_first_or_second():
    actual = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    good, bad = actual.copy(), actual.copy()
    good[0], bad[3:6] = 1, 1 - actual[3:6]
    forth, back = mcnemar(actual, good, bad), mcnemar(actual, bad, good)
    assert (forth["only_one_right"], forth["only_other_right"]) == (3, 1)
    assert (back["only_one_right"], back["only_other_right"]) == (1, 3)
    assert forth["difference"] == pytest.approx(0.2) == -back["difference"]
    # Two-sided, of a fair coin: P(at most 1 of 4) = 5 / 16, twice.
    assert forth["p"] == back["p"] == pytest.approx(10 / 16)
    half = 1.96 * math.sqrt(4 - 4 / 10) / 10
    assert forth["interval"] == pytest.approx([0.2 - half, 0.2 + half])
    assert back["interval"] == pytest.approx([-0.2 - half, -0.2 + half])


def test_a_class_that_does_not_occur_and_is_not_predicted_is_not_counted():
    figures = classification_figures(np.array([0, 1, 1]), np.array([0, 1, 0]), ["a", "b", "c"])
    assert (figures["classes"], figures["undefined"], figures["rows"]) == (2, 0, 3)
