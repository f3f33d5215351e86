"""One process that classifies for a long time keeps its memory and its file handles."""

import subprocess
import sys

import pytest
from conftest import ROOT

CLASSIFY = """
import os, random, sys
from pathlib import Path
import numpy as np
import torch
from bilm.text.batching import iterate_batches
from bilm.training.classification import predict
from bilm.checkpoints.model_format import load_bilm, load_classifier
from bilm.cli.options import RunOptions
from bilm.cli.start import start

runtime = start(RunOptions(device="cpu", precision="fp32"))
models = Path(sys.argv[1])
pretrained = load_bilm(models / "bilstm.pt")
model = load_classifier(models / "classifier.pt", pretrained).model
chance = random.Random(0)

def memory_and_files():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))

@torch.no_grad()
def classify(times):
    for _ in range(times):
        text = " ".join(chance.choice(pretrained.vocabulary.words) for _ in range(chance.randint(0, 120)))
        predict(model, iterate_batches(pretrained.vocabulary.encode([text]), np.array([0]), 8192), 1, runtime.device)

classify(300)  # all lengths have been there
memory, files = memory_and_files()
classify(1000)
later, files_later = memory_and_files()
print(later - memory, files_later - files)
"""


@pytest.mark.slow
def test_a_thousand_texts_leak_nothing(trained, record):
    done = subprocess.run(
        [sys.executable, "-c", CLASSIFY, trained[0] / "models/sample"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    memory, files = map(int, done.stdout.split())
    assert memory < 8 << 20 and files == 0
    record("1,000 texts one by one", {"memory_grown_mb": round(memory / 2**20, 2), "files_left_open": files})
