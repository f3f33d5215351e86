"""Learn the clusters of tokens from texts without labels, by k-means."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from bilm.modules.encoder import Encoder
from bilm.modules.token_clusters import LAYER, SIZES, TokenClusters
from bilm.runtime.errors import UserError
from bilm.text.batching import evaluation_batch_tokens, iterate_batches, mask_of
from bilm.text.vocabulary import EncodedTexts

# Tokens that the clusters are learned from. More make no difference; these take seconds.
SAMPLE = 30_000


@torch.no_grad()
def learn_clusters(
    encoder: Encoder,
    texts: EncodedTexts,
    rows: np.ndarray,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
    seed: int,
) -> TokenClusters:
    """Learn the clusters from random texts of `rows` with SAMPLE tokens in all, or from all of them.

    There are fewer clusters where there are fewer tokens. Raises UserError if no text has a word.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(rows)
    num_texts = 1 + int(np.searchsorted(np.cumsum(texts.lengths[order] - 2), SAMPLE))
    points = _directions(encoder, texts, order[:num_texts], device, autocast)[:SAMPLE]
    if not len(points):
        raise UserError(f"a hybrid classifier cannot be trained on these {len(rows)} rows: none of them has a word.")
    result = TokenClusters([min(size, len(points)) for size in SIZES], encoder.output_dim)
    for centroids in result.centroids:
        kmeans = MiniBatchKMeans(len(centroids), batch_size=2048, max_iter=20, n_init=1, random_state=seed % 2**32)
        # Its threads wait for each other in busy loops: beside another program, two take ten times as long as one.
        with threadpool_limits(1):
            kmeans.fit(points)
        # In the precision of the file.
        centroids.copy_(torch.from_numpy(kmeans.cluster_centers_).half())
    return result.to(device)


@torch.no_grad()
def _directions(
    encoder: Encoder,
    texts: EncodedTexts,
    rows: np.ndarray,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> np.ndarray:
    """Return the vectors of all words of `rows` in LAYER, divided by their length: fp32 (n, E)."""
    found = [np.empty((0, encoder.output_dim), np.float32)]
    for batch in iterate_batches(texts, rows, evaluation_batch_tokens(device)):
        with autocast():
            vectors = encoder.encode(batch.to(device))[LAYER]
        is_word = mask_of(batch.lengths - 1, batch.ids.shape[1])
        is_word[:, 0] = False
        found.append(torch.nn.functional.normalize(vectors[is_word.to(device)].float(), dim=-1).cpu().numpy())
    return np.concatenate(found)
