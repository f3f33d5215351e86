"""The layers of a fixed encoder, computed once and read in every epoch of a classifier's training.

A file holds e1, e2, ... of every token; e0 is looked up each time, which is cheap. The file has no name, or one that
the operating system removes when it is closed, so that it disappears with the process, however that ends.
"""

import io
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bilm.modules.encoder import Encoder
from bilm.runtime.terminal import progress
from bilm.text.batching import Batch, iterate_batches, plan_batches
from bilm.text.vocabulary import EncodedTexts


@dataclass
class LayerCache:
    """A file with the layers of each text, `shape` = (J - 1, E) values of type `dtype` per token.

    `starts`: the byte where each text begins, int64 (N,).
    """

    file: io.RawIOBase
    starts: np.ndarray
    shape: tuple[int, ...]
    dtype: torch.dtype

    def read(self, batch: Batch) -> list[Tensor]:
        """e1, e2, ... of the texts of `batch`: each (B, T, E), zero at padding, on the CPU. Raises OSError."""
        tensor = torch.zeros((*batch.ids.shape, *self.shape), dtype=self.dtype)
        buffers = tensor.view(torch.uint8).numpy()
        for buffer, row, length in zip(buffers, batch.rows, batch.lengths.tolist(), strict=True):
            self.file.seek(self.starts[row])
            if self.file.readinto(buffer[:length].data) != buffer[:length].nbytes:
                raise OSError(f"the file with the layers ends before text {row}")
        return list(tensor.unbind(2))

    def append(self, content: np.ndarray, row: int) -> bool:
        """Write the layers of text `row`, uint8; returns whether there was enough space."""
        self.starts[row] = self.file.tell()
        try:
            return self.file.write(content.data) == content.nbytes
        except OSError:
            return False

    def close(self) -> None:
        self.file.close()


def cache_layers(
    encoder: Encoder,
    texts: EncodedTexts,
    folder: Path,
    limit: float,
    batch_tokens: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> LayerCache | None:
    """Compute the layers of all `texts` and write them to a file in `folder`.

    Returns None if they need more than `limit` bytes or more than the free disk space less a tenth of the disk, or if
    writing fails.
    """
    batches = progress(
        iterate_batches(texts, np.arange(len(texts)), batch_tokens),
        total=len(plan_batches(texts.lengths, batch_tokens)),
        unit="batch",
        label="layers of the language model",
    )
    cache = None
    encoder.eval()
    with torch.no_grad(), autocast(), batches:
        for batch in batches:
            layers = torch.stack(encoder.encode(batch.to(device))[1:], dim=2).cpu()
            if cache is None:
                disk = shutil.disk_usage(folder)
                if int(texts.lengths.sum()) * layers[0, 0].nbytes > min(limit, disk.free - disk.total / 10):
                    return None
                file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by the cache
                cache = LayerCache(file, np.empty(len(texts), np.int64), tuple(layers.shape[2:]), layers.dtype)
            contents = layers.view(torch.uint8).numpy()
            for content, row, length in zip(contents, batch.rows, batch.lengths.tolist(), strict=True):
                if not cache.append(content[:length], row):
                    cache.close()
                    return None
    return cache
