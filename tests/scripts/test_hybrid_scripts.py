"""The scripts with a hybrid classifier and an ensemble, on the sample."""

import json
import shutil
from dataclasses import asdict

import pytest
from conftest import ROOT, SAMPLE, TINY, run_script

from bilm.checkpoints import serialization
from bilm.checkpoints.classifier_files import find_classifiers
from bilm.checkpoints.model_format import load_bilm
from bilm.config import CLASSIFIER_FIT, ClassifierConfig


@pytest.fixture(scope="module")
def output(trained, tmp_path_factory):
    """The models of the sample, and a hybrid classifier beside them."""
    folder = tmp_path_factory.mktemp("hybrid") / "out"
    shutil.copytree(trained[0], folder)
    run = run_script(
        "classification.py", "--data", SAMPLE, "--output", folder, "--mode", "hybrid", "--precision", "fp32"
    )
    assert run.code == 0 and "classifier (hybrid): reads words" in run.out and "5 folds" in run.out, run.err
    return folder


def test_a_hybrid_classifier_is_evaluated_beside_the_others(trained, output):
    models = output / "models/sample"
    members = [models / f"classifier_{mode}.pt" for mode in ("hybrid", "function")]
    run = run_script("-m", "bilm", "ensemble", "--output", models / "both.json", *members)
    assert run.code == 0, run.err
    shutil.copy(models / "both.json", models / "hybrid.json")
    run = run_script("evaluate.py", "--data", SAMPLE, "--output", output, "--classifier", models / "hybrid.json")
    assert run.code == 2 and "another model is called 'hybrid'" in run.err and "accuracy" not in run.out
    for name in ("classifier_function.pt", "both.json"):
        run = run_script("evaluate.py", "--data", SAMPLE, "--output", output, "--classifier", models / name)
        assert run.code == 0, run.err
    assert "classifier both: accuracy" in run.out and "expected calibration error" in run.out
    assert "not all were trained on the same number of rows: trainable 160, frozen 160" in run.out
    assert "hybrid 200." in run.out
    summary = json.loads((output / "results/sample/summary.json").read_text(encoding="utf-8"))
    without = json.loads((trained[0] / "results/sample/summary.json").read_text(encoding="utf-8"))
    assert summary["language_model"]["test"] == without["language_model"]["test"], "new words are <unk> to it"
    assert set(summary["classifiers"]) == {"trainable", "frozen", "function", "hybrid"}
    for entry in summary["classifiers"].values():
        assert 0 <= entry["test"]["calibration_error"] <= 1 and "calibration_error_at_temperature_1" in entry["test"]
    assert 0.25 < summary["others"]["both"]["test"]["accuracy"] <= 1
    again = summary["others"]["classifier_function"]["test"]
    assert again["confusion_matrix"] == summary["classifiers"]["function"]["test"]["confusion_matrix"]
    assert (output / "results/sample/figures/confusion_hybrid_test.png").exists()


def test_it_is_trained_on_all_rows_after_cross_validation(output):
    training = json.loads((output / "results/sample/classifier_hybrid_training.json").read_text(encoding="utf-8"))
    assert (training["rows_trained"], training["validation_splits"]) == (200, 5)
    chosen = f"{'+'.join(training['features'])} {training['strength']}"
    assert training["validation_accuracy"] == training["validation_accuracies"][chosen]


def test_the_choice_between_modes_is_by_the_same_rows(output):
    """Of the 200 rows, 40 are those that the other modes are validated on."""
    training = json.loads((output / "results/sample/classifier_hybrid_training.json").read_text(encoding="utf-8"))
    accuracy, models = training["accuracy_on_validation_rows"], output / "models/sample"
    assert 40 * accuracy == pytest.approx(round(40 * accuracy))
    files = find_classifiers(models, load_bilm(models / "bilstm.pt"))
    assert files.accuracies["hybrid"] == accuracy


def test_a_finished_one_is_skipped(output):
    again = ("classification.py", "--data", SAMPLE, "--output", output, "--mode", "hybrid", "--precision", "fp32")
    assert "skipped" in run_script(*again, "--resume").out


def test_what_has_no_effect_on_it_makes_no_other_run(output, tmp_path):
    """Nor does it in files of earlier versions, which name epochs and learning rates; another seed does."""
    shutil.copytree(output, tmp_path / "out")
    path = tmp_path / "out/models/sample/classifier_hybrid.pt"
    saved = serialization.load(path, "classifier")
    used = {"seed", "limit", "precision", "corpus", "bilm", "mode"}
    assert set(saved["info"]["settings"]) == used
    command = ["classification.py", "--data", SAMPLE, "--output", tmp_path / "out", "--mode", "hybrid"]
    command += ["--precision", "fp32", "--resume"]
    other = ["--epochs", 5, "--dropout", 0.1, "--learning-rate", 0.1, "--label-smoothing", 0, "--hidden", 9]
    assert "skipped" in run_script(*command, *other, "--encoder-learning-rate", 0.1).out
    earlier = asdict(ClassifierConfig()) | asdict(CLASSIFIER_FIT) | {"encoder_learning_rate": 0.0}
    del earlier["checkpoint_seconds"]
    saved["info"]["settings"] |= earlier
    serialization.save(path, "classifier", saved)
    for options in ([], other):
        assert "skipped" in run_script(*command, *options).out
    run = run_script(*command, "--seed", 1)
    assert run.code == 2 and "other settings (seed: 0, now 1)" in run.err, run.err


def test_figures_of_training_rows_are_of_models_that_were_trained_on_them(trained, output, tmp_path):
    """A language model of the first 60 rows, and a classifier of other texts, were not."""
    common = ("--data", SAMPLE, "--limit", 60, "--output", tmp_path)
    run = run_script("ELMO.py", *common, *TINY, "--epochs", 1, "--from-scratch")
    assert run.code == 0, run.err
    (bilm,) = tmp_path.glob("models/*/bilstm.pt")
    common = ("--data", SAMPLE, "--split", "train", "--output")
    run = run_script("evaluate.py", *common, tmp_path / "out", "--bilm", bilm)
    assert run.code == 2 and "the language model was not pretrained on" in run.err, run.err
    assert "train.csv, but on 60 of its rows (--limit)." in run.err
    run = run_script("evaluate.py", *common, output, "--classifier", ROOT / "models/classifier_function.pt")
    assert run.code == 2 and "classifier_function.pt was trained on another language model" in run.err, run.err
    run = run_script("evaluate.py", *common, output, "--classifier", ROOT / "models/classifier_large.pt")
    assert run.code == 2 and "classifier_large.pt was not trained on these rows" in run.err, run.err
