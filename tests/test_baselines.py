"""baselines.py as a user runs it, and the TF-IDF classifier on texts whose classes words tell apart."""

import json

import numpy as np
import pytest
from conftest import SAMPLE, run_script

from bilm.tfidf import STRENGTHS, fit_tfidf_svm


def test_what_words_tell_apart_is_learned_and_chosen_on_validation():
    texts = [f"the {name} {n}" for n in range(20) for name in ("market", "match")]
    labels = np.arange(40) % 2
    swapped = labels.copy()
    swapped[30:] = 1 - swapped[30:]
    model, accuracies = fit_tfidf_svm(texts, labels, np.arange(30), np.arange(30, 40), seed=0)
    assert set(accuracies) == {str(s) for s in STRENGTHS} and max(accuracies.values()) == 1
    assert model.predict(["a market", "a match"]).tolist() == [0, 1]
    _, accuracies = fit_tfidf_svm(texts, swapped, np.arange(30), np.arange(30, 40), seed=0)
    assert max(accuracies.values()) == 0, "the validation rows are not trained on"


def test_before_and_after_an_evaluation(trained, tmp_path):
    common = ["--data", SAMPLE, "--output", tmp_path]
    run = run_script("baselines.py", *common)
    assert run.code == 0 and "tfidf_svm: accuracy" in run.out and "Next: python evaluate.py" in run.out, run.err
    for kind in ("models", "results"):
        (tmp_path / kind / "sample").mkdir(parents=True, exist_ok=True)
    for path in (trained[0] / "models/sample").glob("*.pt"):
        (tmp_path / "models/sample" / path.name).write_bytes(path.read_bytes())
    run = run_script("evaluate.py", *common, "--duplicates", "--device", "cpu")
    assert run.code == 0 and "nearly repeat a training row" in run.out, run.err
    summary = json.loads((tmp_path / "results/sample/summary.json").read_text())
    baseline = summary["baselines"]["tfidf_svm"]
    assert baseline["rows_trained"] == 360 and baseline["seconds_to_train"] >= 0
    models = {*summary["classifiers"], "ensemble"}
    assert set(summary["paired"]) == models
    for name in models:
        figures = summary["ensemble"]["test"] if name == "ensemble" else summary["classifiers"][name]["test"]
        difference = summary["paired"][name]["tfidf_svm"]["difference"]
        assert difference == pytest.approx(figures["accuracy"] - baseline["test"]["accuracy"])
    assert set(summary["near_duplicates"]["accuracy"]) == {*models, "tfidf_svm"}
