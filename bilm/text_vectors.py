"""One vector per text and layer: the mean over its tokens."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import numpy as np
import torch

from bilm.batching import Batch, mask_of
from bilm.classifier import Encoder


@torch.no_grad()
def mean_layers(
    encoder: Encoder,
    batches: Iterable[Batch],
    num_texts: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
) -> np.ndarray:
    """The mean of e0, e1, ... over the tokens of each text, its boundaries too, by row: fp32 (num_texts, J, E);
    NaN in rows of no batch."""
    pooled = np.full((num_texts, encoder.num_layers, encoder.output_dim), np.nan, dtype=np.float32)
    for batch in batches:
        with autocast():
            layers = torch.stack(encoder.encode(batch.to(device)), dim=1)
        inside = mask_of(batch.lengths, batch.ids.shape[1]).to(layers.device)[:, None, :, None]
        sums = (layers * inside).sum(2, dtype=torch.float32).cpu()
        pooled[batch.rows] = (sums / batch.lengths[:, None, None]).numpy()
    return pooled
