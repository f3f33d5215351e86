"""The same language model implemented plainly, without optimizations for speed.

Per direction a two-layer nn.LSTM in fp32, texts cut or padded to 50 tokens, one softmax over the complete vocabulary at
every position including padding, and Adam. Widths, vocabulary and dropout are those of this project's model. The
process is set up in the same way, too: glibc keeps freed memory.
"""

import numpy as np
import torch
from torch import Tensor, nn

from bilm.config import BiLMConfig
from bilm.text.batching import collate, reverse_within_length
from bilm.text.vocabulary import PAD, EncodedTexts

TEXTS_IN_BATCH = 32
LENGTH = 50  # tokens of a text that are read, including its boundaries
LEARNING_RATE = 1e-3


class PlainBiLM(nn.Module):
    """Embedding, an LSTM for each direction, one linear layer over the vocabulary (V words) for both."""

    def __init__(self, config: BiLMConfig, vocabulary_size: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, config.width, padding_idx=PAD)
        self.forward_lstm, self.backward_lstm = (
            nn.LSTM(config.width, config.width, num_layers=config.layers, dropout=config.dropout, batch_first=True)
            for _ in range(2)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.width, vocabulary_size)
        self.loss = nn.CrossEntropyLoss(ignore_index=PAD)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean negative log-likelihood (nats) of both directions, summed: ids (B, T) -> fp32 ()."""
        reversed_ids = reverse_within_length(ids, lengths)
        return self._direction(self.forward_lstm, ids) + self._direction(self.backward_lstm, reversed_ids)

    def _direction(self, lstm: nn.Module, ids: Tensor) -> Tensor:
        states, _ = lstm(self.dropout(self.embedding(ids[:, :-1])))
        logits = self.out(self.dropout(states))
        return self.loss(logits.flatten(0, 1), ids[:, 1:].flatten())


def fixed_length(texts: EncodedTexts, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Cut or pad the texts of `rows` to LENGTH: ids int64 (B, LENGTH), lengths int64 (B,)."""
    batch = collate(texts, rows)
    padding = (0, LENGTH - batch.ids.shape[1])  # cuts if it is negative
    return nn.functional.pad(batch.ids, padding, value=PAD), batch.lengths.clamp(max=LENGTH)


class PlainTraining:
    """Training steps of the plain model."""

    def __init__(self, config: BiLMConfig, vocabulary_size: int, texts: EncodedTexts, device: torch.device):
        self.model = PlainBiLM(config, vocabulary_size).to(device).train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self.texts = texts
        self.device = device

    def step(self, rows: np.ndarray) -> int:
        """Train on the texts `rows`; return the number of tokens, without padding and without tokens cut off."""
        ids, lengths = fixed_length(self.texts, rows)
        loss = self.model(ids.to(self.device), lengths)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return int((lengths - 1).sum())
