"""bf16 in the tools: requested, refused, and of no effect on the type of the results."""

from functools import partial

import numpy as np
import pytest
import torch
from conftest import CPU_BF16, needs_bf16, run_script

from bilm import ELMo, TextClassifier
from bilm.checkpoints.model_format import load_bilm
from bilm.inference.word_predictor import WordPredictor
from bilm.runtime import device
from bilm.runtime.errors import UserError

COMMANDS = {
    "predict": ["a"],
    "vectors": ["a", "--output", "x.npz"],
    "neighbours": ["--build", "--input", "nowhere.txt"],
    "lm": ["a"],
}


def results(path, texts, precision: str) -> list[np.ndarray]:
    """What every use of a model returns."""
    classifier, elmo = (kind.load(path, precision=precision) for kind in (TextClassifier, ELMo))
    predictor = WordPredictor(load_bilm(path), precision=precision)
    scores = [score.nll for by_direction in predictor.score(texts) for score in by_direction.values()]
    filled = np.array([p for _, p in predictor.fill("Stocks ___ in New York.", 3)[0]], np.float32)
    arrays = [classifier.predict_proba(texts), elmo.sentence_vectors(texts), *elmo.embed(texts), *scores, filled]
    assert predictor.generate(texts[0], 1, "forward", 0.0, 0.9, np.random.default_rng(0))
    return arrays


@pytest.mark.parametrize("simulated", [True, pytest.param(False, marks=needs_bf16)])
def test_results_in_bf16_are_fp32_and_near_those_in_fp32(trained_bilm, texts, monkeypatch, simulated):
    expected = results(trained_bilm, texts, "fp32")
    calls = []

    def simulate(lstm, x):
        """In fp32, and rounded to bf16 if that was requested: not every CPU can compute LSTMs in bf16."""
        calls.append(torch.is_autocast_enabled("cpu"))
        with torch.autocast("cpu", enabled=False):
            y = lstm(x.float())[0]
        return y.bfloat16() if calls[-1] else y

    if simulated:
        monkeypatch.setattr(device, "lack_of_bf16", lambda _: "")
        monkeypatch.setattr("bilm.modules.lstm._run_lstm", simulate)
    actual = results(trained_bilm, texts, "bf16")
    assert not simulated or (calls and all(calls))
    for one, two in zip(actual, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, two, atol=0.03, rtol=0.03)
    assert not np.array_equal(actual[1], expected[1])


@pytest.mark.skipif(CPU_BF16, reason="this CPU computes in bf16")
@pytest.mark.parametrize("command", COMMANDS)
def test_bf16_where_the_cpu_cannot_is_one_line(trained_bilm, command):
    run = run_script(f"-m bilm {command}", *COMMANDS[command], "--bilm", trained_bilm, "--precision", "bf16")
    assert run.code == 2 and "precision bf16: this CPU cannot" in run.err and run.err.count("\n") == 1, run.err


def test_an_unknown_precision_is_refused(trained_bilm):
    for load in (
        ELMo.load,
        TextClassifier.load,
        lambda path, precision: WordPredictor(load_bilm(path), "cpu", precision),
    ):
        with pytest.raises(UserError, match=r"precision 'fp16': choose auto, bf16 or fp32"):
            partial(load, trained_bilm)(precision="fp16")


@pytest.mark.parametrize("command", ["predict", "vectors", "lm"])
def test_auto_is_accepted_everywhere(trained_bilm, tmp_path, command):
    more = ["--output", tmp_path / "x.npz"] if command == "vectors" else []
    run = run_script(f"-m bilm {command}", "Rain fell.", "--bilm", trained_bilm, "--precision", "auto", *more)
    assert run.code == 0, run.err
