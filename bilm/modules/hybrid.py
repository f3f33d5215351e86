"""The hybrid classifier: linear in TF-IDF features of the words and in pooled vectors of ELMo's layers.

As in a "wide and deep" model (Cheng et al. 2016), the wide part knows exact words, pairs of words and character
n-grams, also those that the language model has no vector for; the deep part knows what is similar. N-grams of clusters
of tokens are between the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bilm.config import HYBRID
from bilm.modules.encoder import Encoder
from bilm.modules.token_clusters import TokenClusters
from bilm.text.batching import Batch, mask_of
from bilm.text.ngrams import NGRAMS, NgramFeatures, Words


@dataclass(frozen=True)
class HybridConfig:
    """words, characters, clusters: the n-grams of each kind; layers: numbers of the layers that are pooled, or none.

    cluster_sizes: see TokenClusters; none without n-grams of clusters.
    """

    words: tuple[str, ...]
    characters: tuple[str, ...]
    layers: tuple[int, ...]
    clusters: tuple[str, ...] = ()
    cluster_sizes: tuple[int, ...] = ()


class HybridClassifier(nn.Module):
    """Layers, each (B, T, E), and the words of the batch -> logits (B, C).

    logits = (words W + characters U + clusters K + pooled_vectors V + b) / temperature, where words, characters and
    clusters are the TF-IDF of the n-grams. training.hybrid learns the weights; they are not trained further.
    """

    mode = HYBRID
    temperature: Tensor

    def __init__(self, config: HybridConfig, encoder: Encoder, num_classes: int):
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        shapes = {kind: len(getattr(config, kind)) for kind in NGRAMS}
        shapes["vectors"] = 2 * len(config.layers) * encoder.output_dim
        self.weights = nn.ParameterDict({name: torch.zeros(size, num_classes) for name, size in shapes.items()})
        self.bias = nn.Parameter(torch.zeros(num_classes))
        for kind in NGRAMS:
            self.register_buffer(f"{kind}_idf", torch.ones(shapes[kind]))
        self.register_buffer("temperature", torch.ones(()))
        self.token_clusters = TokenClusters(config.cluster_sizes, encoder.output_dim)
        self._features: dict[str, NgramFeatures] = {}

    def forward(self, layers: Sequence[Tensor], batch: Batch) -> Tensor:
        with torch.autocast(self.bias.device.type, enabled=False):
            texts = {"clusters": self.token_clusters(layers, batch.lengths.tolist())} if self.config.clusters else {}
            if self.config.words or self.config.characters:
                texts["words"] = texts["characters"] = batch.words()
            logits = self.bias + sum(self._wide(kind, texts[kind]) for kind in NGRAMS if len(self.weights[kind]))
            if self.config.layers:
                logits = (
                    logits + pooled_vectors([layers[j] for j in self.config.layers], batch) @ self.weights["vectors"]
                )
            return logits / self.temperature

    def _wide(self, kind: str, texts: Words) -> Tensor:
        """The part of the logits that depends on n-grams of one kind, (B, C)."""
        if kind not in self._features:
            idf = self.get_buffer(f"{kind}_idf").cpu().numpy()
            self._features[kind] = NgramFeatures.restore(kind, getattr(self.config, kind), idf)
        features, weights = self._features[kind].compute(texts), self.weights[kind]
        indices, starts = (torch.from_numpy(x).long() for x in (features.indices, features.indptr[:-1]))
        values = torch.from_numpy(features.data).to(weights.device, weights.dtype)
        indices, starts = indices.to(weights.device), starts.to(weights.device)
        return F.embedding_bag(indices, weights, starts, mode="sum", per_sample_weights=values)


def pooled_vectors(layers: Sequence[Tensor], batch: Batch) -> Tensor:
    """J layers (B, T, E) -> fp32 (B, 2 * J * E): of each layer the mean over all tokens and the first word's vector.

    At the first word, the backward LSTM has read the whole text. A text without words has </s> there.
    """
    inside = mask_of(batch.lengths, batch.ids.shape[1]).to(layers[0].device).unsqueeze(-1)
    lengths = batch.lengths.to(layers[0].device).unsqueeze(-1)
    pooled = [part for x in layers for part in ((x.float() * inside).sum(1) / lengths, x[:, 1].float())]
    return torch.cat(pooled, dim=1)
