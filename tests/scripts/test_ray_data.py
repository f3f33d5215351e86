"""examples/ray_data.py on a cluster of two workers on this machine: the answers of one process, in the same order."""

import importlib.util
import tempfile

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from bilm import ELMo, TextClassifier

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
# The same bits on most CPUs. Actors have other batches than one process, and the order in which a matrix product sums
# may depend on the size of a batch.
ROUNDING = 2e-6


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
    monkeypatch.setattr(module, "BATCH", 8)
    return module


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Those of the first batch take far longer than the others: without care, they would be written last."""
    return [*(f"Stocks {i} fell . " * 40 for i in range(8)), *(f"Rain {i}\nfell." for i in range(30)), "2026", ""]


def run(example, monkeypatch, *options: object) -> None:
    monkeypatch.setattr("sys.argv", ["ray_data.py", *map(str, options), "--column", "text"])
    example.main()


def with_threads(actor: type) -> type:
    """Let an actor also write how many threads it computes with."""

    class WithThreads(actor):
        def __call__(self, batch):
            import torch

            return super().__call__(batch).append_column("threads", [[torch.get_num_threads()] * len(batch)])

    return WithThreads


def test_classes_of_two_actors(example, monkeypatch, tmp_path, texts):
    files = [tmp_path / "b.csv", tmp_path / "a.csv"]
    pd.DataFrame({"number": range(20), "text": texts[:20]}).to_csv(files[0], index=False)
    pd.DataFrame({"number": range(20, 40), "text": texts[20:]}).to_csv(files[1], index=False)
    monkeypatch.setattr(example, "Classify", with_threads(example.Classify))
    run(example, monkeypatch, "classes", *files, "--output", tmp_path / "out", "--actors", 2)
    rows = pd.read_parquet(tmp_path / "out")
    assert rows["number"].tolist() == list(range(40)) and rows["text"].tolist() == texts
    classifier = TextClassifier.load()
    assert rows["predicted"].tolist() == classifier.predict(texts)
    probabilities = rows[[f"probability_{name}" for name in classifier.classes]].to_numpy()
    np.testing.assert_allclose(probabilities, classifier.predict_proba(texts), rtol=0, atol=ROUNDING)
    assert rows["threads"].eq(1).all()


def test_vectors_of_an_actor_with_two_cores(example, monkeypatch, tmp_path, texts):
    pd.DataFrame({"text": texts}).to_parquet(tmp_path / "texts.parquet")
    monkeypatch.setattr(example, "Embed", with_threads(example.Embed))
    run(example, monkeypatch, "vectors", tmp_path / "texts.parquet", "--output", tmp_path / "out", "--cpus", 2)
    rows = pd.read_parquet(tmp_path / "out")
    assert rows["text"].tolist() == texts and rows["threads"].eq(2).all()
    vectors = np.stack(rows["vector"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, ELMo.load().sentence_vectors(texts), rtol=0, atol=ROUNDING)
