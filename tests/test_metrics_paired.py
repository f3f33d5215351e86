import math
from types import SimpleNamespace

import numpy as np
import pytest

from bilm.evaluation import summary as summaries
from bilm.evaluation.predictions import Predictions, read_predictions, write_predictions
from bilm.metrics import mcnemar
from bilm.runtime.errors import UserError

LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3])


def test_mcnemar_by_hand():
    """Five rows that only `one` has right, one row that only `other` has: p = 2 (C(6, 0) + C(6, 1)) / 2^6."""
    one, other = LABELS.copy(), np.array([1, 0, 0, 0, 1, 1, 2, 3])
    one[6] = 0
    result = mcnemar(LABELS, one, other)
    assert (result["only_one_right"], result["only_other_right"]) == (5, 1)
    assert result["difference"] == 0.5 and result["p"] == 2 * (1 + 6) / 64
    # Wald's variance of the difference of paired proportions: (b + c - (b - c)^2 / n) / n^2.
    half = 1.96 * np.sqrt((6 - 16 / 8) / 64)
    assert result["interval"] == pytest.approx([0.5 - half, 0.5 + half])


def test_p_is_the_sum_of_the_tails_of_a_fair_coin():
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 3000)
    one, other = (np.where(random.random(3000) < share, labels, 3 - labels) for share in (0.9, 0.88))
    result = mcnemar(labels, one, other)
    fewer, more = sorted((result["only_one_right"], result["only_other_right"]))
    tail = sum(math.comb(fewer + more, k) for k in range(fewer + 1))
    assert result["p"] == pytest.approx(2 * tail / 2 ** (fewer + more), rel=1e-12)


def test_two_equal_classifiers():
    assert mcnemar(LABELS, LABELS, LABELS) == {
        "difference": 0.0,
        "interval": [0.0, 0.0],
        "only_one_right": 0,
        "only_other_right": 0,
        "p": 1.0,
    }


CORPUS = {"train": "1", "test": "2"}


def test_predictions_are_read_as_written(tmp_path):
    path = tmp_path / "predictions.json"
    predictions = Predictions(CORPUS, LABELS, {"b": ("x", LABELS[::-1].copy()), "a": ("y", np.zeros(8, np.int64))})
    predictions.near_duplicates = (np.array([2, 7]), 0.5)
    write_predictions(path, predictions)
    result = read_predictions(path, CORPUS)
    assert np.array_equal(result.labels, LABELS) and list(result.models) == ["a", "b"]
    for name, (of, classes) in result.models.items():
        assert of == predictions.models[name][0] and np.array_equal(classes, predictions.models[name][1])
    assert result.near_duplicates[0].tolist() == [2, 7] and result.near_duplicates[1] == 0.5
    other = read_predictions(path, CORPUS | {"train": "3"})
    assert other.models == {} and other.labels is None, "those of another corpus are not read"


COMPLETE = (
    '{"corpus": {}, "labels": "0 1", "near_duplicates": NEAR, "models": {"a": {"of": "x", "classes": "CLASSES"}}}'
)


@pytest.mark.parametrize(
    ("near", "classes"), [("null", "0"), ("null", "9" * 30), ('{"rows": "7", "labels_differ": 0.5}', "0 1")]
)
def test_damaged_predictions_are_refused(tmp_path, near, classes):
    path = tmp_path / "predictions.json"
    path.write_text(COMPLETE.replace("NEAR", "null").replace("CLASSES", "0 1"))
    assert read_predictions(path, {}).models["a"][1].tolist() == [0, 1]
    path.write_text(COMPLETE.replace("NEAR", near).replace("CLASSES", classes))
    with pytest.raises(UserError, match=r"predictions\.json"):
        read_predictions(path, {})


@pytest.mark.parametrize("content", ["[]", '{"labels": "1 2"}', '{"labels": "0 1", "models": {"a": "0"}}', "{"])
def test_a_file_without_predictions_is_refused(tmp_path, content):
    path = tmp_path / "predictions.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"predictions\.json"):
        read_predictions(path, CORPUS)


@pytest.fixture
def summary():
    """Two classifiers with hashes A and B, their ensemble, and a baseline with hash S."""
    result = summaries.empty({"command": "", "commit": "", "hardware": "", "precision": "", "date": ""})
    result["classifiers"] = {"frozen": {"hash": "A"}, "function": {"hash": "B"}}
    result["baselines"] = {"svm": {"hash": "S"}}
    summaries.add_ensemble(result, {"frozen": "A", "function": "B"}, "test", {"accuracy": 0.5})
    return result


@pytest.fixture
def predictions():
    wrong = np.array([1, 1, 2, 3, 0, 1, 2, 0])
    models = {"frozen": ("A", LABELS), "function": ("B", wrong), "ensemble": ("A B", LABELS), "svm": ("S", wrong)}
    return Predictions(CORPUS, LABELS, dict(models), (np.array([0, 1]), 0.5))


def test_comparisons_with_baselines_and_on_near_duplicates(summary, predictions):
    summaries.refresh_comparisons(summary, predictions)
    differences = {name: against["svm"]["difference"] for name, against in summary["paired"].items()}
    assert differences == {"frozen": 0.25, "function": 0.0, "ensemble": 0.25}
    between = {n: {o: f["difference"] for o, f in m.items()} for n, m in summary["paired_classifiers"].items()}
    assert between == {"function": {"frozen": -0.25}, "ensemble": {"frozen": 0.0, "function": 0.25}}
    near = summary["near_duplicates"]
    assert near["rows"] == 2 and near["labels_differ"] == 0.5
    assert near["accuracy"]["svm"] == {"near_duplicates": 0.5, "rest": 5 / 6} == near["accuracy"]["function"]
    assert near["accuracy"]["frozen"] == {"near_duplicates": 1.0, "rest": 1.0}


def test_the_displayed_baseline_is_the_best_on_validation(summary, predictions):
    summary["baselines"] = {
        "weak": {"hash": "W", "validation_accuracy": 0.5},
        "svm": {"hash": "S", "validation_accuracy": 0.75},
    }
    predictions.models["weak"] = ("W", LABELS)
    summaries.refresh_comparisons(summary, predictions)
    assert set(summary["paired"]["frozen"]) == {"weak", "svm"}
    assert all(set(against) == {"svm"} for against in summaries.with_strongest(summary).values())


def test_comparisons_of_replaced_weights_are_removed(summary, predictions):
    summary["classifiers"]["frozen"] = {"hash": "trained again, and not evaluated on test"}
    summaries.refresh_comparisons(summary, predictions)
    assert set(summary["paired"]) == {"function"} and summary["ensemble"] == {}
    assert set(summary["near_duplicates"]["accuracy"]) == {"function", "svm"} == set(predictions.models)


def test_an_ensemble_gives_way_to_a_later_model_of_the_same_name(summary, predictions):
    for name, sha256 in (("function", "E"), ("svm", "E"), ("both", "E")):
        summaries.add_other(summary, name, sha256, "test", {"accuracy": 0.5})
    predictions.models["both"] = ("E", LABELS)
    summaries.refresh_comparisons(summary, predictions)
    assert set(summary["others"]) == {"both"}
    assert set(summary["paired"]) == {"frozen", "function", "ensemble", "both"}


def test_a_baseline_of_another_corpus_is_removed(summary):
    summaries.refresh_comparisons(summary, Predictions(CORPUS))
    assert summary["baselines"] == summary["paired"] == summary["near_duplicates"] == {}


def test_scores_of_another_test_csv_or_language_model_are_removed(summary):
    model = SimpleNamespace(hash="M", info={"rows_trained": 3})
    summary |= {"bilm": "M", "test_csv": "2"}
    remaining = summaries.begin(summary, model, "2", {})
    assert remaining["classifiers"] == summary["classifiers"] and remaining["ensemble"] == summary["ensemble"]
    for other in (
        summaries.begin(summary, model, "3", {}),
        summaries.begin(summary, SimpleNamespace(hash="N", info=model.info), "2", {}),
    ):
        assert other["classifiers"] == other["ensemble"] == {} and other["baselines"] == summary["baselines"]


def test_predictions_are_read_without_test_rows(tmp_path):
    """If the training rows are the same, and not otherwise."""
    path, corpus = tmp_path / "predictions.json", {"train": "a", "test": "b"}
    write_predictions(path, Predictions(corpus, np.array([0, 1]), {"x": ("hash", np.array([1, 1]))}))
    result = read_predictions(path, {"train": "a"})
    assert result.corpus == corpus and result.models["x"][1].tolist() == [1, 1]
    assert read_predictions(path, {"train": "other"}).models == {}
    assert read_predictions(path, {"train": "a", "test": "other"}).models == {}
