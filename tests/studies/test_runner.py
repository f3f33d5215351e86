"""Studies: what the lambdas do, and that a study that was stopped goes on behind what is done."""

import contextlib
import copy
import json
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import SAMPLE, run_script, start

from bilm.config import ClassifierConfig, FitConfig
from bilm.modules.scalar_mix import ScalarMix
from bilm.modules.static_encoder import StaticEncoder
from bilm.runtime.errors import UserError
from bilm.text.ag_news import read_ag_news
from bilm.text.corpus import Corpus, Source
from bilm.text.encoded_corpus import encode, open_encoded
from bilm.text.split import split_validation
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import SPECIALS, Vocabulary
from studies.dataset import LabelledTexts, read_labelled, words_of
from studies.runner import Study, StudyProgress, classes_of, write_study


def test_a_ledger_knows_what_is_done_and_nothing_else(tmp_path):
    folder, created = tmp_path / "runs/study", []

    def make(name: str) -> dict:
        created.append(name)
        return {"name": name}

    ledger = StudyProgress(folder, {"seed": 0}, restart=False)
    with pytest.raises(UserError, match="other settings"):
        StudyProgress(folder, {"seed": 1}, restart=False)  # though nothing is done yet
    assert [ledger.part(n, lambda n=n: make(n)) for n in "aba"] == [{"name": "a"}, {"name": "b"}, {"name": "a"}]
    repeated = StudyProgress(folder, {"seed": 0}, restart=False)
    assert "b" in repeated and "c" not in repeated
    assert repeated.part("b", lambda: make("b")) == {"name": "b"} and created == ["a", "b"]
    (folder / "c.pt").write_bytes(b"of the classifier that was being trained")
    other = StudyProgress(folder, {"seed": 1}, restart=True)
    assert "a" not in other and [path.name for path in folder.iterdir()] == ["parts.json"]
    other.close()
    assert not folder.exists()


def test_earlier_results_with_other_settings_are_kept(tmp_path, capsys):
    path = tmp_path / "study.json"
    for seed, value in ((0, 1), (0, 2), (1, 3), (0, 4)):
        write_study(path, {"settings": {"seed": seed}, "value": value})
    kept = sorted(json.loads(file.read_text())["value"] for file in tmp_path.glob("study-*.json"))
    assert json.loads(path.read_text())["value"] == 4 and kept == [2, 3]
    assert capsys.readouterr().err.count("they are now in") == 2


def study(folder, rows: LabelledTexts, settings: dict | None = None, **fitting) -> Study:
    _, encoded = words_of(rows)
    progress = StudyProgress(folder, settings or {}, restart=False)
    corpus = Corpus.in_folder("sample", SAMPLE)
    run = SimpleNamespace(device=torch.device("cpu"), autocast=contextlib.nullcontext, corpus=corpus)
    fit_config = FitConfig(epochs=3, learning_rate=1e-2, **fitting)
    return Study(run, rows, encoded, progress, ClassifierConfig(hidden=8), fit_config)


@pytest.fixture(scope="module")
def rows() -> LabelledTexts:
    return read_labelled(Corpus.in_folder("sample", SAMPLE), None)


def test_a_classifier_learns_from_the_training_rows_alone(rows, tmp_path):
    """Whatever the labels of the others are: on test they are not looked at, on validation they pick the epoch."""
    labels = rows.labels.copy()
    labels[rows.test] = (labels[rows.test] + 1) % 4
    encoder = StaticEncoder.random(2000, 6, seed=0)
    parts = [
        study(tmp_path / str(n), of).classifier("part", encoder, "trainable", 0)
        for n, of in enumerate((rows, replace(rows, labels=labels)))
    ]
    assert parts[0]["classes"] == parts[1]["classes"]
    assert parts[0]["validation_accuracy"] == parts[1]["validation_accuracy"]
    previous = rows.labels[rows.test]
    for part, of in zip(parts, (previous, labels[rows.test]), strict=True):
        assert part["test_accuracy"] == (classes_of(part) == of).mean()
    few = study(tmp_path / "few", rows).classifier("part", encoder, "trainable", 0, training=rows.training[:50])
    assert few["rows_trained"] == 50 and few["classes"] != parts[0]["classes"]
    swapped = replace(rows, labels=np.where(np.isin(np.arange(len(labels)), rows.training[50:]), 0, rows.labels))
    same = study(tmp_path / "same", swapped).classifier("part", encoder, "trainable", 0, training=rows.training[:50])
    assert same["classes"] == few["classes"]


def test_an_encoder_that_is_kept_is_kept_and_one_that_learns_learns(rows, tmp_path):
    encoder = StaticEncoder.random(2000, 6, seed=0)
    before = encoder.table.weight.clone()
    part = study(tmp_path, rows).classifier("kept", encoder, "trainable", 0)
    assert torch.equal(encoder.table.weight, before)
    repeated = study(tmp_path, rows).classifier("kept", encoder, "trainable", 0)
    timeless = {key: value for key, value in part.items() if not key.startswith("seconds")}
    assert timeless == {key: repeated[key] for key in timeless}, "nothing is left of the first"
    learned = copy.deepcopy(encoder)
    study(tmp_path, rows).classifier("tuned", learned, "trainable", 0, encoder_learning_rate=1e-2)
    assert not torch.equal(learned.table.weight, before) and torch.equal(encoder.table.weight, before)


def test_what_a_stopped_classifier_left_is_not_taken_for_one_of_other_settings(rows, tmp_path):
    encoder = StaticEncoder.random(2000, 6, seed=0)

    class Stopped(Exception):
        pass

    def stop():
        raise Stopped

    first = study(tmp_path / "study", rows, {"seed": 0}, checkpoint_seconds=0.0)
    calls = iter(range(12))
    with pytest.raises(Stopped):
        autocast = lambda: contextlib.nullcontext() if next(calls, None) is not None else stop()  # noqa: E731
        stopping = replace(first, run=SimpleNamespace(**{**vars(first.run), "autocast": autocast}))
        stopping.classifier("part", encoder, "trainable", 0)
    assert (tmp_path / "study/part.pt").exists()
    resumed = first.classifier("part", encoder, "trainable", 0)
    complete = study(tmp_path / "whole", rows, {"seed": 0}).classifier("part", encoder, "trainable", 0)
    assert (
        resumed["classes"] == complete["classes"] and resumed["validation_accuracy"] == complete["validation_accuracy"]
    )
    with pytest.raises(Stopped):
        calls = iter(range(12))
        stopping.classifier("part", encoder, "trainable", 0)
    with pytest.raises(UserError, match="other settings"):
        study(tmp_path / "study", rows, {"seed": 1})


def test_rows_of_both_files_and_the_same_split_as_in_training(rows, tmp_path):
    inputs = [list(read_ag_news(SAMPLE / f"{split}.csv", None)) for split in ("train", "test")]
    assert rows.texts == [text for part in inputs for _, text in part]
    assert rows.labels.tolist() == [label for part in inputs for label, _ in part]
    assert rows.of(rows.test) == [text for _, text in inputs[1]]
    position = tmp_path / "ids"
    encode(Source(SAMPLE / "train.csv", None, rows.hashes["train"]), Vocabulary(list(SPECIALS), Tokenizer()), position)
    encoded = open_encoded(position)
    split = split_validation(encoded.labels, encoded.keys)
    assert np.array_equal(rows.training, split[0]) and np.array_equal(rows.validation, split[1])


def test_a_layer_with_no_weight_counts_for_nothing():
    mix = ScalarMix(3, trainable=False)
    mix.start_from([-float("inf"), 0.0, -float("inf")])
    layers = [torch.randn(2, 4, 5) for _ in range(3)]
    assert torch.equal(mix(layers), layers[1])
    assert mix.describe()["lambdas"] == [0.0, 1.0, 0.0]
    mix.start_from(np.log([0.2, 0.3, 0.5]).tolist())
    assert mix.describe()["lambdas"] == pytest.approx([0.2, 0.3, 0.5])


def test_lambda_study_stopped_and_resumed_is_the_same(trained, tmp_path):
    common = ("--data", SAMPLE, "--draws", 2, "--starts", 1, "--precision", "fp32", "--device", "cpu", "--hidden", 16)
    folders = [tmp_path / "whole", tmp_path / "stopped"]
    for folder in folders:
        (folder / "models/sample").mkdir(parents=True)
        (folder / "models/sample/bilstm.pt").write_bytes((trained[0] / "models/sample/bilstm.pt").read_bytes())
    run = run_script("-m studies.lambda_study", *common, "--output", folders[0], OMP_NUM_THREADS="1")
    assert run.code == 0 and "frozen_1" in run.out, run.err
    process = start("-m studies.lambda_study", *common, "--output", folders[1])
    ledger = folders[1] / "runs/sample/lambda_study/parts.json"
    while not ledger.exists() or '"e0"' not in ledger.read_text():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "stopped" in message
    run = run_script("-m studies.lambda_study", *common, "--output", folders[1])
    assert run.code == 2 and "--resume" in run.err
    run = run_script("-m studies.lambda_study", *common, "--output", folders[1], "--resume", OMP_NUM_THREADS="1")
    assert run.code == 0 and "e0: epoch" not in run.out and not ledger.exists(), run.err
    complete, stopped = (json.loads((f / "results/sample/lambda_study.json").read_text())["parts"] for f in folders)
    for name, part in complete.items():
        timeless = {key: value for key, value in part.items() if not key.startswith("seconds")}
        assert timeless == {key: value for key, value in stopped[name].items() if not key.startswith("seconds")}
    assert complete["e1"]["after"]["lambdas"] == [0, 1, 0] == complete["e1"]["before"]["lambdas"]
    assert complete["mean"]["after"] == {"lambdas": pytest.approx([1 / 3] * 3), "gamma": 1}
    assert complete["frozen_1"]["after"] == complete["frozen_1"]["before"] != complete["frozen_0"]["before"]
    assert complete["trainable_0"]["before"] == complete["frozen_0"]["before"] != complete["trainable_0"]["after"]
    run = run_script("-m studies.lambda_study", *common, "--output", folders[1], "--resume")
    assert run.code == 0 and "with these settings; skipped" in run.out, run.err
