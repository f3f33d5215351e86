"""What only a GPU can show; skipped where there is none."""

import numpy as np
import pytest
import torch
from conftest import SAMPLE, TINY, run_script
from original_files import OPTIONS, SENTENCES, datasets, write

from bilm import ELMo
from bilm.checkpoints import serialization
from bilm.config import BiLMConfig
from bilm.modules.language_model import BiLM
from bilm.runtime.device import autocast, set_tf32
from bilm.text.batching import collate
from bilm.training import cuda_graphs
from bilm.training.optimizer import build_optimizer
from bilm.training.pretraining import PretrainingTask

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")]


def test_a_gpu_gives_the_layers_and_losses_of_a_cpu(bilm, vocabulary, texts):
    set_tf32(False)
    batch = collate(vocabulary.encode(texts), np.arange(5))
    with torch.no_grad():
        expected = [*bilm.encode(batch), bilm(batch)]
        present = bilm.to("cuda")
        moved = batch.to(torch.device("cuda"))
        result = [*present.encode(moved), present(moved)]
    for a, b in zip(expected, result, strict=True):
        torch.testing.assert_close(b.cpu(), a, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("token_layer", ["word", "word+char"])
def test_the_same_seed_gives_the_same_weights(tmp_path, precision, token_layer):
    weights = []
    for attempt in ("one", "two"):
        output = tmp_path / attempt
        options = [*TINY, "--epochs", 2, "--device", "cuda", "--precision", precision, "--token-layer", token_layer]
        run = run_script("ELMO.py", "--data", SAMPLE, "--output", output, *options)
        assert run.code == 0, run.err
        weights.append(serialization.load(output / "models/sample/bilstm.pt", "bilm")["id"])
    assert weights[0] == weights[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_gives_the_same_bits_with_a_graph_as_without(vocabulary, texts, monkeypatch, precision):
    """And so does a run that is resumed, which begins without graphs."""
    device, encoded = torch.device("cuda"), vocabulary.encode(texts * 4)
    weights = []
    for uses in (1, 4, 10**9):
        monkeypatch.setattr(cuda_graphs, "USES_BEFORE_CAPTURE", uses)
        torch.manual_seed(0)
        model = BiLM(BiLMConfig(width=16, dropout=0.5, cutoffs=(8, 20)), len(vocabulary)).to(device).train()
        task = PretrainingTask(encoded, np.arange(20), np.arange(20), 128, 0, device)
        optimizer = build_optimizer([(model, 1e-2)], 0.01)
        for item in [rows for epoch in range(8) for rows in task.plan(epoch)]:
            with autocast(device, precision):
                loss, count, _ = task.loss(model, item, 0, 1)
            (loss / count).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        assert bool(task._graphed._captured) == (uses < 10**9)
        weights.append([p.detach().clone() for p in model.parameters()])
    for first, *others in zip(*weights, strict=True):
        assert all(torch.equal(first, other) for other in others)


def test_lstms_in_bf16_are_close_to_fp32(bilm, vocabulary, texts):
    batch = collate(vocabulary.encode(texts), np.arange(5)).to(torch.device("cuda"))
    bilm.to("cuda")
    with torch.no_grad(), autocast(torch.device("cuda"), "fp32"):
        expected = bilm.encode(batch)
    with torch.no_grad(), autocast(torch.device("cuda"), "bf16"):
        result = bilm.encode(batch)
    assert result[1].dtype == torch.bfloat16
    for a, b in zip(expected, result, strict=True):
        torch.testing.assert_close(b.float(), a, rtol=0.05, atol=0.02)


def test_the_original_is_the_same_on_a_gpu(tmp_path):
    files = write(tmp_path / "original", OPTIONS, datasets(OPTIONS, np.random.default_rng(0)))
    for a, b in zip(*(ELMo.load(*files, device=device).embed(SENTENCES) for device in ("cpu", "cuda")), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)


def test_the_three_scripts_in_bf16(tmp_path):
    common = ["--data", SAMPLE, "--output", tmp_path, "--device", "cuda"]
    assert run_script("ELMO.py", *common, "--epochs", 1).code == 0
    assert run_script("classification.py", *common, "--epochs", 1).code == 0
    assert run_script("classification.py", *common, "--epochs", 1, "--mode", "finetune").code == 0
    assert run_script("evaluate.py", *common, "--split", "all").code == 0
