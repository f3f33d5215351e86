"""Where the layers of a fixed language model lie on the disk, and how much of it they may take."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bilm.modules.static_encoder import StaticEncoder
from bilm.text.batching import Batch, collate
from bilm.training import layer_cache
from bilm.training.layer_cache import LayerCache, cache_layers


def build(bilm, texts, folder, limit=1e9):
    autocast = lambda: torch.autocast("cpu", enabled=False)  # noqa: E731
    return cache_layers(bilm, texts, folder, limit, 20, torch.device("cpu"), autocast)


@pytest.mark.parametrize(("spare", "fits"), [(0, True), (-1, False)])
def test_a_tenth_of_the_disk_stays_free(bilm, vocabulary, texts, tmp_path, monkeypatch, spare, fits):
    """Two layers of 2D = 14 values of four bytes for every token."""
    encoded = vocabulary.encode(texts)
    needed = int(encoded.lengths.sum()) * 2 * 14 * 4
    usage = SimpleNamespace(total=1000, used=0, free=100 + needed + spare)
    monkeypatch.setattr(layer_cache.shutil, "disk_usage", lambda folder: usage)
    cache = build(bilm, encoded, tmp_path)
    assert (cache is not None) == fits
    if cache:
        cache.close()


def test_the_encoder_is_in_evaluation_mode_and_keeps_no_graph(bilm, vocabulary, texts, tmp_path):
    encoded = vocabulary.encode(texts)
    cache = build(bilm.train(), encoded, tmp_path)
    assert not bilm.training
    first = cache.read(collate(encoded, np.arange(5)))
    cache.close()
    repeated = build(bilm.train(), encoded, tmp_path)
    second = repeated.read(collate(encoded, np.arange(5)))
    repeated.close()
    assert all(torch.equal(a, b) and not a.requires_grad for a, b in zip(first, second, strict=True))


def written(count: int = 3) -> LayerCache:
    """Texts of two, one and two tokens with two layers of three values, in memory; text i is made of the number i."""
    cache = LayerCache(io.BytesIO(), np.zeros(3, np.int64), (2, 3), torch.float32)
    for row, length in list(enumerate((2, 1, 2)))[:count]:
        assert cache.append(np.full((length, 6), row + 1, np.float32).view(np.uint8), row)
    return cache


def batch(rows: list[int]) -> Batch:
    lengths = torch.tensor([(2, 1, 2)[row] for row in rows])
    return Batch(torch.ones(len(rows), 2, dtype=torch.long), lengths, np.array(rows))


def test_texts_are_read_at_their_places_in_any_order():
    layers = written().read(batch([2, 0, 1]))
    assert len(layers) == 2 and all(layer.shape == (3, 2, 3) for layer in layers)
    for layer in layers:
        assert layer[:, :, 0].tolist() == [[3, 3], [1, 1], [2, 0]]


def test_a_file_that_ends_too_early_is_an_error():
    cache = written(count=2)
    cache.starts[2] = cache.file.tell()
    cache.read(batch([0, 1]))
    with pytest.raises(OSError, match="text 2"):
        cache.read(batch([2]))


def test_a_disk_that_takes_a_part_has_not_taken_it():
    class Half(io.BytesIO):
        def write(self, content):
            return super().write(content[: len(content) // 2])

    cache = LayerCache(Half(), np.array([0]), (2, 3), torch.float32)
    assert cache.append(np.zeros((2, 24), np.uint8), 0) is False


def test_no_text_is_no_cache(vocabulary, tmp_path):
    assert build(StaticEncoder(np.zeros((9, 4), np.float32)), vocabulary.encode([]), tmp_path) is None
