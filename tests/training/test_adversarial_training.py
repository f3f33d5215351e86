"""Mode finetune with adversarial perturbations: the option, its settings, and a run that is resumed."""

import copy
import json

import numpy as np
import pytest
import torch
from conftest import SAMPLE, run_script

import classification
from bilm.checkpoints.serialization import load
from bilm.config import ClassifierConfig, FitConfig
from bilm.runtime.options import parse_options
from bilm.training.classification import ClassificationTask, ClassifierTrainer, Trained

ROWS = np.arange(5)
LABELS = np.array([2, 1, 0, 3, 0])


def train(bilm, encoded, path, adversarial: float, resume: bool = False) -> Trained:
    """Nine steps on five texts, with dropout and a checkpoint after each."""
    torch.manual_seed(0)
    fit_config = FitConfig(epochs=3, learning_rate=0.02, batch_tokens=32, checkpoint_seconds=0.0)
    trainer = ClassifierTrainer(
        encoded,
        *(LABELS, ROWS, ROWS, 4),
        *(ClassifierConfig(hidden=11), fit_config),
        *(torch.device("cpu"), lambda: torch.autocast("cpu", enabled=False)),
    )
    options = {"checkpoint_path": path, "settings": {}, "resume": resume, "encoder_learning_rate": 0.01}
    return trainer.train("classifier", copy.deepcopy(bilm), "finetune", 0, adversarial=adversarial, **options)


def test_a_resumed_run_has_the_bits_of_one_that_was_not_stopped(bilm, vocabulary, texts, tmp_path, monkeypatch):
    encoded = vocabulary.encode(texts)
    complete = train(bilm, encoded, tmp_path / "complete.pt", 0.1)
    steps, batch_loss = [], ClassificationTask.batch_loss

    def killed(*arguments):
        steps.append(arguments)
        if len(steps) == 6:
            raise MemoryError
        return batch_loss(*arguments)

    monkeypatch.setattr(ClassificationTask, "batch_loss", killed)
    with pytest.raises(MemoryError):
        train(bilm, encoded, tmp_path / "killed.pt", 0.1)
    assert load(tmp_path / "killed.pt", "training")["state"]["batch"] > 0, "stopped within an epoch"
    resumed = train(bilm, encoded, tmp_path / "killed.pt", 0.1, resume=True)
    assert resumed.state.curve == complete.state.curve
    weights, expected = resumed.model.state_dict(), complete.model.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in weights.items())


def test_perturbed_texts_are_learned_too(bilm, vocabulary, texts, tmp_path):
    plain, perturbed = (
        train(bilm, vocabulary.encode(texts), tmp_path / f"{strength}.pt", strength).state.epochs
        for strength in (0.0, 0.5)
    )
    assert perturbed[-1]["train_loss"] > plain[-1]["train_loss"] + 0.02


def options_of(*arguments: str) -> classification.ClassificationOptions:
    return parse_options(classification.Options, "", arguments=arguments).classification


def test_only_mode_finetune_is_trained_with_perturbations():
    options = options_of("--mode", "all", "--adversarial", "0.02")
    assert {mode: options.of_mode(mode).adversarial for mode in options.modes()} == {
        **{"trainable": 0.0, "frozen": 0.0, "function": 0.0},
        "finetune": 0.02,
    }
    assert options_of().adversarial == 0.0


def test_the_option_is_a_setting_of_the_run_unless_it_is_off(trained, tmp_path):
    """So that a run that finished before there was this option has the settings that are expected of it."""
    bilstm = trained[0] / "models/sample/bilstm.pt"
    common = ["--data", SAMPLE, "--bilm", bilstm, "--limit", 60, "--precision", "fp32", "--epochs", 1, "--hidden", 8]
    weights = {}
    for strength in (None, 0.0, 0.1):
        option = [] if strength is None else ["--adversarial", strength]
        output = tmp_path / str(strength)
        run = run_script("classification.py", *common, "--mode", "finetune", *option, "--output", output)
        assert run.code == 0, run.err
        path = output / "results/sample-limit-60/classifier_finetune_training.json"
        settings = json.loads(path.read_text())["settings"]
        assert settings.get("adversarial") == (strength or None)
        weights[strength] = load(output / "models/sample-limit-60/classifier_finetune.pt", "classifier")["id"]
    assert weights[None] == weights[0.0] != weights[0.1]
