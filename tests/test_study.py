"""Studies: what the lambdas do, and that a study that was stopped goes on behind what is done."""

import json
import signal
import time

import numpy as np
import pytest
import torch
from conftest import SAMPLE, run_script, start

from bilm.combine import ScalarMix
from bilm.corpus import Corpus, split_validation
from bilm.csv_rows import read_rows
from bilm.encoded_corpus import Source, encode, open_encoded
from bilm.errors import UserError
from bilm.labelled import read_labelled
from bilm.lexicon import SPECIALS
from bilm.study import Ledger
from bilm.vocabulary import Tokenizer, Vocabulary


def test_a_ledger_knows_what_is_done_and_nothing_else(tmp_path):
    path, made = tmp_path / "study.json", []

    def make(name: str) -> dict:
        made.append(name)
        return {"name": name}

    ledger = Ledger(path, {"seed": 0})
    assert [ledger.part(n, lambda n=n: make(n)) for n in "aba"] == [{"name": "a"}, {"name": "b"}, {"name": "a"}]
    again = Ledger(path, {"seed": 0})
    assert again.part("b", lambda: make("b")) == {"name": "b"} and made == ["a", "b"]
    with pytest.raises(UserError, match="other settings"):
        Ledger(path, {"seed": 1})
    again.close()
    assert not path.exists()
    Ledger(path, {"seed": 1})


def test_rows_of_both_files_and_the_same_split_as_in_training(tmp_path):
    rows = read_labelled(Corpus("sample", SAMPLE), None)
    given = [list(read_rows(SAMPLE / f"{split}.csv", None)) for split in ("train", "test")]
    assert rows.texts == [text for part in given for _, text in part]
    assert rows.labels.tolist() == [label for part in given for label, _ in part]
    assert rows.of(rows.test) == [text for _, text in given[1]]
    place = tmp_path / "ids"
    encode(Source(SAMPLE / "train.csv", None, rows.hashes["train"]), Vocabulary(list(SPECIALS), Tokenizer()), place)
    encoded = open_encoded(place)
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
    run = run_script("lambda_study.py", *common, "--output", folders[0], OMP_NUM_THREADS="1")
    assert run.code == 0 and "frozen_1" in run.out, run.err
    process = start("lambda_study.py", *common, "--output", folders[1])
    ledger = folders[1] / "runs/sample/lambda_study.json"
    while not ledger.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "--resume" in said
    run = run_script("lambda_study.py", *common, "--output", folders[1])
    assert run.code == 2 and "--resume" in run.err
    run = run_script("lambda_study.py", *common, "--output", folders[1], "--resume", OMP_NUM_THREADS="1")
    assert run.code == 0 and "e0: epoch" not in run.out and not ledger.exists(), run.err
    whole, stopped = (json.loads((f / "results/sample/lambda_study.json").read_text())["parts"] for f in folders)
    for name, part in whole.items():
        timeless = {key: value for key, value in part.items() if not key.startswith("seconds")}
        assert timeless == {key: value for key, value in stopped[name].items() if not key.startswith("seconds")}
    assert whole["e1"]["after"]["lambdas"] == [0, 1, 0] == whole["e1"]["before"]["lambdas"]
    assert whole["mean"]["after"] == {"lambdas": pytest.approx([1 / 3] * 3), "gamma": 1}
    assert whole["frozen_1"]["after"] == whole["frozen_1"]["before"] != whole["frozen_0"]["before"]
    assert whole["trainable_0"]["before"] == whole["frozen_0"]["before"] != whole["trainable_0"]["after"]
