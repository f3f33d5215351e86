import io
import json
import os
import tempfile

import numpy as np
import pytest
import torch
from conftest import SAMPLE, needs_bf16, run_script

from bilm.config import ClassifierConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.text.batching import iterate_batches
from bilm.training.classification import ClassificationTask
from bilm.training.layer_cache import cache_layers

CPU = torch.device("cpu")


def store_of(bilm, texts, folder, limit=1e9, dtype=torch.float32):
    autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)  # noqa: E731
    return cache_layers(bilm, texts, folder, limit, 20, CPU, autocast)


@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float32, 1e-6), pytest.param(torch.bfloat16, 2e-2, marks=needs_bf16)]
)
def test_what_is_stored_is_what_the_encoder_gives(bilm, vocabulary, texts, tmp_path, dtype, close):
    """For every token that is not padding, in other batches than those of the computation."""
    encoded = vocabulary.encode(texts)
    cache = store_of(bilm, encoded, tmp_path, dtype=dtype)
    for batch in iterate_batches(encoded, np.array([3, 0, 4]), 1000):
        layers = bilm.encode(batch)
        read = cache.read(batch)
        assert len(read) == len(layers) - 1 and read[0].shape == layers[1].shape
        for result, expected in zip(read, layers[1:], strict=True):
            for i, length in enumerate(batch.lengths.tolist()):
                torch.testing.assert_close(result[i, :length].float(), expected[i, :length], rtol=0, atol=close)
                assert not result[i, length:].any()
        assert torch.equal(bilm.embed(batch, torch.float32), layers[0])
    cache.close()


def test_the_file_has_no_name_and_goes_with_its_store(bilm, vocabulary, texts, tmp_path):
    files = len(os.listdir("/proc/self/fd"))
    cache = store_of(bilm, vocabulary.encode(texts), tmp_path)
    assert list(tmp_path.iterdir()) == []
    cache.close()
    assert len(os.listdir("/proc/self/fd")) == files


def test_more_than_the_limit_is_not_stored(bilm, vocabulary, texts, tmp_path):
    encoded = vocabulary.encode(texts)
    needed = int(encoded.lengths.sum()) * 2 * 14 * 4
    files = len(os.listdir("/proc/self/fd"))
    assert store_of(bilm, encoded, tmp_path, limit=needed - 1) is None
    assert len(os.listdir("/proc/self/fd")) == files
    store_of(bilm, encoded, tmp_path, limit=needed).close()


def test_a_disk_that_fills_up_is_no_failure(bilm, vocabulary, texts, tmp_path, monkeypatch):
    files, written = len(os.listdir("/proc/self/fd")), []

    class SmallDisk(io.FileIO):
        def write(self, content):
            written.append(self.tell())
            if len(written) == 3:
                raise OSError(28, "No space left on device")
            return super().write(content)

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir, buffering: SmallDisk(dir / "layers", "w+b"))
    assert store_of(bilm, vocabulary.encode(texts), tmp_path) is None
    assert len(os.listdir("/proc/self/fd")) == files and len(written) == 3


def test_a_classifier_reads_what_is_stored(bilm, vocabulary, texts, tmp_path):
    """Other layers in the cache give another loss."""
    encoded, rows = vocabulary.encode(texts), np.arange(5)
    classifier = Classifier(ClassifierConfig(hidden=5, dropout=0.0), "trainable", bilm, 4, seed=0)
    model = EncoderClassifier(bilm, classifier, finetuned=False)
    cache = store_of(bilm, encoded, tmp_path)

    class Other:
        def read(self, batch):
            return [100 * layer for layer in cache.read(batch)]

    def loss(of):
        task = ClassificationTask("", encoded, np.arange(5) % 4, rows, rows, 1000, 0, CPU, of)
        return task.loss(model, rows, 0, 1)[0].item(), task.validate(model)

    assert loss(cache)[0] == pytest.approx(loss(None)[0], rel=1e-5) and loss(cache)[1] == loss(None)[1]
    assert loss(Other())[0] != pytest.approx(loss(None)[0], rel=1e-2)
    cache.close()


def test_a_classifier_learns_the_same_with_and_without(trained, tmp_path):
    common = ["classification.py", "--data", SAMPLE, "--precision", "fp32", "--epochs", 2, "--hidden", 16]
    curves = []
    for gigabytes in (0, 1):
        output = tmp_path / str(gigabytes)
        (output / "models/sample").mkdir(parents=True)
        (output / "models/sample/bilstm.pt").write_bytes((trained[0] / "models/sample/bilstm.pt").read_bytes())
        run = run_script(*common, "--store-gb", gigabytes, "--output", output)
        assert run.code == 0, run.err
        assert not (output / "runs").exists()
        for mode in ("trainable", "frozen", "function"):
            history = json.loads((output / f"results/sample/classifier_{mode}_training.json").read_text())
            curves.append([point["loss"] for point in history["curve"]])
            assert (history["seconds_for_layers"] > 0) == (gigabytes > 0)
    assert curves[:3] == [pytest.approx(curve, rel=1e-5) for curve in curves[3:]]
