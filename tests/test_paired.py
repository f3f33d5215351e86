import numpy as np
import pytest

from bilm.errors import UserError
from bilm.paired import mcnemar
from bilm.predictions import Predictions

LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3])


def test_mcnemar_by_hand():
    """Five rows that one alone has right, one that the other alone has: (6 over 0 + 6 over 1) / 2^6, twice."""
    one, other = LABELS.copy(), np.array([1, 0, 0, 0, 1, 1, 2, 3])
    one[6] = 0
    found = mcnemar(LABELS, one, other)
    assert (found["only_one_right"], found["only_other_right"]) == (5, 1)
    assert found["difference"] == 0.5 and found["p"] == 2 * (1 + 6) / 64
    # Wald's variance of the difference of paired proportions: (b + c - (b - c)^2 / n) / n^2.
    half = 1.96 * np.sqrt((6 - 16 / 8) / 64)
    assert found["interval"] == pytest.approx([0.5 - half, 0.5 + half])


def test_mcnemar_is_the_binomial_test_of_scipy():
    from scipy.stats import binomtest

    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 3000)
    one, other = (np.where(random.random(3000) < share, labels, 3 - labels) for share in (0.9, 0.88))
    found = mcnemar(labels, one, other)
    discordant = found["only_one_right"] + found["only_other_right"]
    assert found["p"] == pytest.approx(binomtest(found["only_one_right"], discordant).pvalue)
    assert mcnemar(labels, one, one) == {
        "difference": 0.0,
        "interval": [0.0, 0.0],
        "only_one_right": 0,
        "only_other_right": 0,
        "p": 1.0,
    }


def test_predictions_come_back(tmp_path):
    path = tmp_path / "predictions.json"
    predictions = Predictions(path, LABELS)
    predictions.models = {"b": LABELS[::-1].copy(), "a": np.zeros(8, np.int64)}
    predictions.write()
    found = Predictions(path, LABELS).models
    assert list(found) == ["a", "b"] and all(np.array_equal(found[n], predictions.models[n]) for n in found)
    assert Predictions(path, LABELS[:-1]).models == {}, "those of other rows do not count"


@pytest.mark.parametrize("content", ["[]", '{"labels": "1 2"}', '{"labels": "0 1", "models": {"a": "0"}}', "{"])
def test_what_holds_no_predictions_is_refused(tmp_path, content):
    path = tmp_path / "predictions.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"predictions\.json"):
        Predictions(path, np.array([0, 1]))
