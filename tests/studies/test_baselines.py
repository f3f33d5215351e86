"""The study of baselines as a user runs it."""

import json
import shutil

import pytest
from conftest import SAMPLE, run_script


def test_rows_with_nothing_to_tell_apart_are_one_line(tmp_path):
    for split in ("train", "test"):
        rows = [f'1,"t{n}","word{n} one{n} two{n}"' for n in range(8)]
        (tmp_path / f"{split}.csv").write_text("\n".join(rows) + "\n")
    run = run_script("-m studies.baselines", "--data", tmp_path, "--output", tmp_path / "out", "--only", "tfidf_svm")
    assert run.code == 2 and run.err.count("\n") == 1 and "cannot be trained on these" in run.err, run.err


def test_a_study_of_some_goes_on_where_one_of_all_was_stopped(tmp_path):
    """What the first has finished is in the summary of the second, which does not train it."""
    common = ["-m studies.baselines", "--data", SAMPLE, "--output", tmp_path, "--only"]
    assert run_script(*common, "tfidf_svm").code == 0
    summary = tmp_path / "results/sample/summary.json"
    settings = json.loads(summary.read_text())["baselines"]["tfidf_svm"]["settings"]
    part = {"validation_accuracy": 0.5, "seconds_to_train": 1, "seconds_to_classify": 1, "classes": " ".join(80 * "0")}
    stopped = {"settings": settings, "parts": {"random": part}}
    (tmp_path / "runs/sample/baselines").mkdir(parents=True)
    (tmp_path / "runs/sample/baselines/parts.json").write_text(json.dumps(stopped))
    run = run_script(*common, "tfidf_logistic", "--resume")
    assert run.code == 0 and "random: accuracy 0.2375" in run.out, run.err
    assert set(json.loads(summary.read_text())["baselines"]) == {"tfidf_svm", "tfidf_logistic", "random"}


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
    assert baseline["rows_trained"] == 160 and baseline["seconds_to_train"] >= 0
    tried = baseline["validation_accuracy_by_words_and_strength"]
    chosen = f"{baseline['words']} {baseline['strength']:g}"
    assert tried[chosen] == baseline["validation_accuracy"] == max(tried.values())
    models = {*summary["classifiers"], "ensemble"}
    assert set(summary["paired"]) == models
    for name in models:
        figures = summary["ensemble"]["test"] if name == "ensemble" else summary["classifiers"][name]["test"]
        difference = summary["paired"][name]["tfidf_svm"]["difference"]
        assert difference == pytest.approx(figures["accuracy"] - baseline["test"]["accuracy"])
    assert set(summary["near_duplicates"]["accuracy"]) == {*models, "tfidf_svm"}


def test_results_on_other_test_rows_stay(tmp_path):
    data, results = tmp_path / "data", tmp_path / "out/results/data"
    data.mkdir()
    shutil.copy(SAMPLE / "train.csv", data)
    rows = (SAMPLE / "test.csv").read_bytes().splitlines(keepends=True)
    common = ["-m studies.baselines", "--data", data, "--output", tmp_path / "out", "--only"]
    for name, part in (("tfidf_svm", rows[:40]), ("tfidf_svm", rows[40:]), ("tfidf_logistic", rows[:40])):
        (data / "test.csv").write_bytes(b"".join(part))
        run = run_script(*common, name)
        assert run.code == 0, run.err
    summary = json.loads((results / "summary.json").read_text())
    assert set(summary["baselines"]) == {"tfidf_svm", "tfidf_logistic"}
    assert set(json.loads((results / "predictions.json").read_text())["models"]) == set(summary["baselines"])
    assert len(list(results.glob("test-*/predictions.json"))) == 2
