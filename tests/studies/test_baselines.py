"""baselines.py as a user runs it, and the TF-IDF classifier on texts whose classes words tell apart."""

import json

import numpy as np
import pytest
from conftest import SAMPLE, run_script

from bilm.baselines.tfidf import CLASSIFIERS, fit_tfidf


def test_what_words_tell_apart_is_learned_and_chosen_on_validation():
    """A word tells the class in four of five texts, the others are noise: the strengths come to different figures."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    told = np.where(random.random(400) < 0.8, labels, 1 - labels)
    noise = random.integers(150, size=(400, 2))
    texts = [f"{'ab'[c]}{n % 9} word{x} word{y}" for n, (c, (x, y)) in enumerate(zip(told, noise, strict=True))]
    model, accuracies = fit_tfidf("svm", texts, labels, np.arange(300), np.arange(300, 400), seed=0)
    assert set(accuracies) == {str(s) for s in CLASSIFIERS["svm"][1]} and len(set(accuracies.values())) > 1
    assert accuracies[str(model[-1].C)] == max(accuracies.values())
    query = [texts[n] for n in range(300, 400)]
    assert np.mean(model.predict(query) == labels[300:]) == max(accuracies.values())
    swapped = np.where(np.arange(400) < 300, labels, 1 - labels)
    _, other = fit_tfidf("svm", texts, swapped, np.arange(300), np.arange(300, 400), seed=0)
    assert other == {s: pytest.approx(1 - a) for s, a in accuracies.items()}, "validation rows are not trained on"


def test_rows_with_nothing_to_tell_apart_are_one_line(tmp_path):
    for split in ("train", "test"):
        rows = [f'1,"t{n}","word{n} one{n} two{n}"' for n in range(8)]
        (tmp_path / f"{split}.csv").write_text("\n".join(rows) + "\n")
    run = run_script("-m studies.baselines", "--data", tmp_path, "--output", tmp_path / "out", "--only", "tfidf_svm")
    assert run.code == 2 and run.err.count("\n") == 1 and "cannot be trained on these" in run.err, run.err


def test_before_and_after_an_evaluation(trained, tmp_path):
    common = ["--data", SAMPLE, "--output", tmp_path]
    run = run_script("-m studies.baselines", *common, "--only", "tfidf_svm")
    assert run.code == 0 and "tfidf_svm: accuracy" in run.out and "Next: python evaluate.py" in run.out, run.err
    (tmp_path / "models/sample").mkdir(parents=True, exist_ok=True)
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
