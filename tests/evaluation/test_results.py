"""summary.json and predictions.json of test rows that take turns in one folder."""

import json

import numpy as np
import pytest

from bilm.evaluation import summary as summaries
from bilm.evaluation.predictions import Predictions
from bilm.evaluation.results import read_results, write_results
from bilm.runtime.errors import UserError

A, B = ({"train": "t" * 64, "test": name * 64} for name in "ab")


def evaluate(folder, rows, model):
    """Add a model to the results on these rows, as an evaluation does."""
    previous, predictions = read_results(folder, rows)
    summary = (previous or summaries.empty({"seed": 0})) | {"test_csv": rows["test"]}
    summary["baselines"][model] = {"hash": model}
    predictions.labels = np.array([0, 1])
    predictions.models[model] = (model, np.array([1, 1]))
    write_results(folder, summary, predictions)


def models_of(folder, rows):
    summary, predictions = read_results(folder, rows)
    assert set(summary["baselines"]) == set(predictions.models)
    return set(predictions.models)


def test_results_on_rows_that_take_turns_stay(tmp_path, capsys):
    for model, rows in (("1", A), ("2", A), ("3", B), ("4", A), ("5", B), ("6", A)):
        evaluate(tmp_path, rows, model)
    assert models_of(tmp_path, A) == {"1", "2", "4", "6"} and models_of(tmp_path, B) == {"3", "5"}
    assert json.loads((tmp_path / "summary.json").read_text())["test_csv"] == A["test"]
    assert capsys.readouterr().err.count(f"they are now in {tmp_path / 'test-bbbbbbbb'}") == 2
    assert not list(tmp_path.rglob("*.tmp"))


def test_rows_kept_beside_are_found_when_the_summary_was_removed(tmp_path):
    evaluate(tmp_path, A, "1")
    evaluate(tmp_path, B, "2")
    (tmp_path / "summary.json").unlink()
    assert models_of(tmp_path, A) == {"1"}


def test_a_summary_without_predictions_replaces_those_of_other_rows(tmp_path):
    """An evaluation of training rows alone: it knows the test rows, but has no predictions of them."""
    evaluate(tmp_path, A, "1")
    write_results(tmp_path, summaries.empty({"seed": 0}) | {"test_csv": B["test"]}, Predictions(B))
    assert not (tmp_path / "predictions.json").exists() and models_of(tmp_path, A) == {"1"}


def test_without_test_rows_the_latest_results_are_read(tmp_path):
    evaluate(tmp_path, A, "1")
    assert models_of(tmp_path, {"train": A["train"]}) == {"1"}
    assert read_results(tmp_path / "new", {"train": A["train"]})[0] == {}


def test_another_file_with_the_same_first_digits_is_not_taken(tmp_path):
    evaluate(tmp_path, A, "1")
    evaluate(tmp_path, B, "2")
    other = A | {"test": A["test"][:8] + 56 * "c"}
    assert read_results(tmp_path, other)[0] == {}


def test_a_failed_copy_leaves_everything_as_it_was(tmp_path):
    evaluate(tmp_path, A, "1")
    (tmp_path / "test-aaaaaaaa/summary.json").mkdir(parents=True)
    with pytest.raises(UserError, match=r"summary\.json is a folder"):
        evaluate(tmp_path, B, "2")
    assert json.loads((tmp_path / "summary.json").read_text())["test_csv"] == A["test"]
