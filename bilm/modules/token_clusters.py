"""TokenClusters: tokens -> the clusters that their vectors in e1 fall into, coarse ones and fine ones.

Clusters are to tokens what the word classes of Brown et al. 1992 are to words: an n-gram of clusters occurs in texts
that have no n-gram of words in common. In e1 the cluster of a word depends on its context, and words that the language
model does not know have one, too.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The layer whose vectors are clustered, and how many clusters there are, at each of two resolutions.
LAYER = 1
SIZES = (100, 300)
BEGIN = "<s>"


class TokenClusters(nn.Module):
    """sizes: the number of clusters at each resolution; width: E.

    centroids[R]: the centres of the clusters at resolution R, fp32 (K, E), for vectors of length 1; learned by
    training.token_clusters.
    """

    def __init__(self, sizes: Sequence[int], width: int):
        super().__init__()
        self.centroids = nn.ParameterList(nn.Parameter(torch.zeros(size, width), requires_grad=False) for size in sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of clusters at each resolution."""
        return tuple(map(len, self.centroids))

    @torch.no_grad()
    def forward(self, layers: Sequence[Tensor], lengths: Sequence[int]) -> list[list[str]]:
        """Layers e0, e1, ..., (B, T, E) each -> of each text "<s>" and the clusters of its words, at each resolution.

        lengths: tokens of each text, with its two boundaries. The name of a cluster is "R.k".
        """
        names: list[list[str]] = [[] for _ in lengths]
        directions = F.normalize(layers[LAYER].float(), dim=-1)
        for resolution, centroids in enumerate(self.centroids):
            nearest = (directions @ centroids.T - centroids.square().sum(1) / 2).argmax(-1).tolist()
            of_cluster = [f"{resolution}.{k}" for k in range(len(centroids))]
            for text, clusters, length in zip(names, nearest, lengths, strict=True):
                text += [BEGIN, *(of_cluster[k] for k in clusters[1 : length - 1])]
        return names
