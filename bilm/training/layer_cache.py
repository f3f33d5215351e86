"""Layers that cannot change, computed once: what a classifier reads of a language model that is kept as it is.

A file holds e1, e2, ... of every token; e0 is looked up again, it is cheap. It has no name, or one that the system
removes when it is closed, so that it goes with the process, however that ends.
"""

import io
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bilm.runtime.terminal import progress
from bilm.text.batching import Batch, iterate_batches, plan_batches
from bilm.text.vocabulary import EncodedTexts


class LayerCache:
    """Text after text, token after token: J - 1 layers of E values.

    `starts`: the byte at which each text begins, int64 (N,); -1 where it is not stored.
    """

    def __init__(self, file: io.RawIOBase, starts: np.ndarray, layers: int, width: int, dtype: torch.dtype):
        self._file = file
        self._starts = starts
        self._shape = (layers, width)
        self._dtype = dtype

    def read(self, batch: Batch) -> list[Tensor]:
        """e1, e2, ... of the texts of `batch`: each (B, T, E), zero at padding, on the CPU."""
        tensor = torch.zeros((*batch.ids.shape, *self._shape), dtype=self._dtype)
        room = tensor.view(torch.uint8).numpy()
        for place, row, length in zip(room, batch.rows, batch.lengths.tolist(), strict=True):
            wanted = place[:length]
            self._file.seek(self._starts[row])
            if self._file.readinto(wanted.data) != wanted.nbytes:
                raise OSError(f"the layers of text {row} are not where they were written")
        return list(tensor.unbind(2))

    def write(self, content: np.ndarray, row: int) -> bool:
        """Whether the disk took it."""
        try:
            self._file.seek(self._starts[row])
            return self._file.write(content.data) == content.nbytes
        except OSError:
            return False

    def close(self) -> None:
        self._file.close()


def cache_layers(
    encoder: Any,
    texts: EncodedTexts,
    folder: Path,
    limit: float,
    batch_tokens: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
) -> LayerCache | None:
    """The layers of all `texts`, in a file in `folder`; None when they would take more than `limit` bytes there.

    Or more than the disk has to spare (a tenth of it stays free), or takes.
    """
    starts = np.full(len(texts), -1, dtype=np.int64)
    batches = progress(
        iterate_batches(texts, np.arange(len(texts)), batch_tokens),
        total=len(plan_batches(texts.lengths, batch_tokens)),
        unit="batch",
        label="layers of the language model",
    )
    cache, end = None, 0
    encoder.eval()
    with torch.no_grad(), autocast(), batches:
        for batch in batches:
            layers = torch.stack(encoder.encode(batch.to(device))[1:], dim=2).cpu()
            _, _, count, width = layers.shape
            if cache is None:
                needed = int(texts.lengths.sum()) * count * width * layers.element_size()
                disk = shutil.disk_usage(folder)
                if needed > min(limit, disk.free - disk.total / 10):
                    return None
                file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - the store closes it
                cache = LayerCache(file, starts, count, width, layers.dtype)
            contents = layers.view(torch.uint8).numpy()
            for content, row, length in zip(contents, batch.rows, batch.lengths.tolist(), strict=True):
                starts[row] = end
                end += content[:length].nbytes
                if not cache.write(content[:length], row):
                    cache.close()
                    return None
    return cache
