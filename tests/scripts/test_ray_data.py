"""examples/ray_data.py on a cluster of two workers on this machine: the answers of one process, in the same order."""

import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from bilm import ELMo, TextClassifier

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
# The same bits on most CPUs. Actors have other batches than one process, and the order in which a matrix product sums
# may depend on the size of a batch.
ROUNDING = 2e-6
# The last two alone would be read as a column of numbers with a missing value.
TEXTS = [*(f"Stocks {i} fell in New York." for i in range(20)), *(f"Rain {i}\nfell." for i in range(18)), "2026", ""]


@pytest.fixture(scope="module")
def cluster():
    """Two CPUs for actors and one for reading and writing; reached from this machine only; its files are removed."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("HOME", folder)  # for the token that keeps other users of this machine out
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on Linux, too: the loopback address
        for name in ("OMP_NUM_THREADS", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        patch.chdir(ROOT)  # from which the actors import bilm
        ray = pytest.importorskip("ray")
        try:
            ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=folder)
            assert ray.util.get_node_ip_address() == "127.0.0.1"
            yield
        finally:
            ray.shutdown()


@pytest.fixture
def example(cluster, monkeypatch):
    """The script as a module that the actors cannot import, so that they get the classes themselves."""
    spec = importlib.util.spec_from_file_location("ray_data", ROOT / "examples" / "ray_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BATCH", 4)
    return module


def run(example, monkeypatch, *options: object) -> None:
    monkeypatch.setattr("sys.argv", ["ray_data.py", *map(str, options), "--column", "text"])
    example.main()


def observed(actor: type, first_waits_for: Path | None = None) -> type:
    """Let an actor write its process and its number of threads, too.

    first_waits_for: the first batch ends after another actor has written this file.
    """

    class Observed(actor):
        def __call__(self, batch):
            import os
            import time

            import torch

            if first_waits_for and TEXTS[0] in batch["text"].to_pylist():
                deadline = time.monotonic() + 60
                while not first_waits_for.exists() and time.monotonic() < deadline:
                    time.sleep(0.05)
            elif first_waits_for:
                first_waits_for.touch()
            batch = super().__call__(batch).append_column("threads", [[torch.get_num_threads()] * len(batch)])
            return batch.append_column("process", [[os.getpid()] * len(batch)])

    return Observed


def test_classes_of_two_actors(example, monkeypatch, tmp_path):
    """The rows that are first are ready last. Long cells: a block of the CSV reader ends within one."""
    files = [tmp_path / "b.csv", tmp_path / "a.csv"]
    table = pd.DataFrame({"number": range(40), "text": TEXTS, "page": "line\n" * 20_000})
    table[:38].to_csv(files[0], index=False)
    table[38:].to_csv(files[1], index=False)
    monkeypatch.setattr(example, "Classify", observed(example.Classify, tmp_path / "second_is_ready"))
    run(example, monkeypatch, "classes", *files, "--output", tmp_path / "out", "--actors", 2)
    rows = pd.read_parquet(tmp_path / "out").sort_values("row", ignore_index=True)
    pd.testing.assert_frame_equal(rows[list(table)], table)
    classifier = TextClassifier.load()
    assert rows["predicted"].tolist() == classifier.predict(TEXTS)
    probabilities = rows[[f"probability_{name}" for name in classifier.classes]].to_numpy()
    np.testing.assert_allclose(probabilities, classifier.predict_proba(TEXTS), rtol=0, atol=ROUNDING)
    assert rows["threads"].eq(1).all() and rows["process"].nunique() == 2


def test_vectors_of_an_actor_with_two_cores(example, monkeypatch, tmp_path):
    pd.DataFrame({"text": TEXTS}).to_parquet(tmp_path / "texts.parquet")
    monkeypatch.setattr(example, "Embed", observed(example.Embed))
    run(example, monkeypatch, "vectors", tmp_path / "texts.parquet", "--output", tmp_path / "out", "--cpus", 2)
    rows = pd.read_parquet(tmp_path / "out").sort_values("row", ignore_index=True)
    assert rows["text"].tolist() == TEXTS and rows["threads"].eq(2).all()
    vectors = np.stack(rows["vector"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, ELMo.load().sentence_vectors(TEXTS), rtol=0, atol=ROUNDING)


def test_actors_on_all_cpus_are_refused(example, monkeypatch, tmp_path, capsys):
    """Reading would wait for them, and they for it."""
    with pytest.raises(SystemExit):
        run(example, monkeypatch, "classes", "texts.csv", "--output", tmp_path / "out", "--actors", 3)
    assert "of the 3 CPUs, one has to be left" in capsys.readouterr().err and not (tmp_path / "out").exists()
