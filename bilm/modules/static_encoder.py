"""A table of word vectors as an encoder with one layer: the classifier reads it instead of the language model."""

import numpy as np
import torch
from torch import Tensor, nn

from bilm.modules.encoder import Encoder
from bilm.modules.token_layer import EMBEDDING_STD
from bilm.text.batching import Batch
from bilm.text.vocabulary import PAD, UNK


class StaticEncoder(Encoder):
    """Ids (B, T) -> [vectors (B, T, E)]; ids outside the table are read as <unk>."""

    num_layers = 1

    def __init__(self, vectors: np.ndarray):
        """vectors: fp32 (V, E), a row per id."""
        super().__init__()
        self.table = nn.Embedding.from_pretrained(torch.from_numpy(vectors), freeze=True, padding_idx=PAD)
        self.output_dim = vectors.shape[1]

    @classmethod
    def random(cls, vocabulary_size: int, width: int, seed: int) -> "StaticEncoder":
        """Draw the vectors from the distribution that initializes those of the language model."""
        vectors = np.random.default_rng(seed).normal(0.0, EMBEDDING_STD, (vocabulary_size, width)).astype(np.float32)
        vectors[PAD] = 0.0
        return cls(vectors)

    def token_vectors(self, batch: Batch) -> Tensor:
        return self.table(torch.where(batch.ids < self.table.num_embeddings, batch.ids, UNK))

    def embed(self, batch: Batch, dtype: torch.dtype) -> Tensor:
        return self.token_vectors(batch).to(dtype)

    def encode(self, batch: Batch, x: Tensor | None = None) -> list[Tensor]:
        return [self.token_vectors(batch) if x is None else x]
