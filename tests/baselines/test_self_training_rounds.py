"""What a classifier is fitted on in each round of self-training: seen by a classifier that keeps it."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bilm.baselines import self_training

LABELLED, UNLABELLED = np.array([0, 1, 998, 999]), np.arange(2, 998)


@pytest.fixture
def fits(monkeypatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """Classes and weights of the rows of every fit; of the rows without a label, 796 are of class 0, 200 of class 1."""
    fitted = []

    class Recording(LogisticRegression):
        def fit(self, x, y, sample_weight=None):
            weights = np.ones(len(y)) if sample_weight is None else sample_weight
            fitted.append((np.asarray(y).copy(), np.asarray(weights).copy()))
            return super().fit(x, y, sample_weight)

    monkeypatch.setattr(self_training, "LogisticRegression", Recording)
    random = np.random.default_rng(0)
    labels = (np.arange(1000) >= 798).astype(int)
    vectors = random.normal(size=(1000, 2)) + np.where(labels, 9.0, -9.0)[:, None]
    self_training.self_train(vectors, labels, LABELLED, UNLABELLED, C=1.0)
    return fitted


def test_at_most_as_many_of_each_class_join_and_more_in_each_round(fits):
    """996 rows: in round r, 95 % x r / 5 of them, half of each class; of the rare class there are 200."""
    joined = [np.bincount(classes[len(LABELLED) :], minlength=2).tolist() for classes, _ in fits]
    expected = [round(996 * 0.95 * r / 5 / 2) for r in range(6)]
    assert joined == [[count, min(count, 200)] for count in expected]


def test_the_labels_keep_their_weight_among_the_rows_that_joined(fits):
    """All labels together count as 5 % of the rows that joined, and each at least as one row."""
    for classes, weights in fits:
        joined = len(classes) - len(LABELLED)
        assert (weights[len(LABELLED) :] == 1).all()
        assert weights[: len(LABELLED)].sum() == pytest.approx(max(4, 0.05 * joined))
        assert classes[: len(LABELLED)].tolist() == [0, 0, 1, 1]
    assert fits[-1][1][0] > 8
