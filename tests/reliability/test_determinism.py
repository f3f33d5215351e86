"""The same seed, machine and number of threads give the same bits; how far other machines are away is measured."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLE, needs_bf16, run_script

from bilm.checkpoints import serialization

# Settings of the process that make this machine compute like another one.
MACHINES = {
    "this machine": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "AVX2 instead of AVX-512": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "no vector instructions in torch": {"ATEN_CPU_CAPABILITY": "default"},
}


def train(output: Path, precision: str, **environment: str) -> tuple[dict[str, Any], float]:
    """What bilstm.pt holds (its weights are rounded to fp16), and validation perplexity."""
    options = ["--width", 64, "--min-count", 2, "--epochs", 3, "--batch-tokens", 512, "--precision", precision]
    run = run_script("ELMO.py", "--data", SAMPLE, "--output", output, "--device", "cpu", *options, **environment)
    assert run.code == 0, run.err
    results = json.loads((output / "results/sample/bilstm_training.json").read_text())
    return serialization.load(output / "models/sample/bilstm.pt", "bilm"), results["validation_perplexity"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
@pytest.mark.parametrize("machine", MACHINES)
def test_twice_the_same_and_how_far_from_here(tmp_path, record, machine, precision):
    if precision == "bf16" and "ONEDNN_MAX_CPU_ISA" in MACHINES[machine]:
        pytest.skip("a processor that has bf16 and is told that it has not is no other machine")
    once, perplexity = train(tmp_path / "once", precision, **MACHINES[machine])
    twice, _ = train(tmp_path / "twice", precision, **MACHINES[machine])
    assert once["id"] == twice["id"]
    here, perplexity_here = train(tmp_path / "here", precision)
    own, other = once["weights"], here["weights"]
    difference = max(float((own[name] - other[name]).abs().max()) for name in own)
    assert machine != "this machine" or once["id"] == here["id"]
    assert perplexity == pytest.approx(perplexity_here, rel=0.05)
    record(
        f"{machine}, {precision}",
        {
            "same_bits_twice": True,
            "largest_difference_of_a_weight_from_this_machine": difference,
            "validation_perplexity": perplexity,
        },
    )
