"""Mode finetune: the language model learns at a rate of its own, which is an option of classification.py."""

import pytest
import torch
from conftest import SAMPLE, run_script

from bilm.checkpoints.serialization import load


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_finetuning_moves_the_language_model_at_the_rate_of_the_option(trained, tmp_path, rate):
    """AdamW moves each weight by about the rate in its first steps: not at all at a rate of 0."""
    (tmp_path / "models/sample").mkdir(parents=True)
    bilstm = tmp_path / "models/sample/bilstm.pt"
    bilstm.write_bytes((trained[0] / "models/sample/bilstm.pt").read_bytes())
    options = ["--mode", "finetune", "--encoder-learning-rate", rate, "--epochs", 1, "--hidden", 16]
    run = run_script("classification.py", "--data", SAMPLE, "--precision", "fp32", *options, "--output", tmp_path)
    assert run.code == 0, run.err
    finetuned_weights = load(tmp_path / "models/sample/classifier_finetune.pt", "classifier")["encoder"]["weights"]
    start = load(bilstm, "bilm")["weights"]
    moved = {name: not torch.equal(weight, start[name]) for name, weight in finetuned_weights.items()}
    name = "forward_lstm.lstms.0.weight_hh_l0"
    assert moved[name] == (rate > 0)
    assert float((finetuned_weights[name].float() - start[name].float()).abs().max()) < 5 * rate + 1e-9
