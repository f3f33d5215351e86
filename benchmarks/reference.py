"""The plain way to the same language model: what is built when nothing is done for speed.

An nn.LSTM of two layers per direction in fp32, texts cut or padded to 50 tokens, one softmax over the whole vocabulary
at every position, padding too, and Adam. It has the widths, the vocabulary and the places of dropout of the project's
own, and profits from the process it runs in: freed memory is kept there for it, too.
"""

import numpy as np
import torch
from torch import Tensor, nn

from bilm.config import BiLMConfig
from bilm.text.batching import collate, reverse_within_length
from bilm.text.vocabulary import PAD, EncodedTexts

TEXTS_IN_BATCH = 32
LENGTH = 50  # tokens of a text that are read, its boundaries among them
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
        """ids (B, T) -> mean negative log-likelihood (nats) of the two directions: fp32 ()."""
        return self._direction(self.forward_lstm, ids) + self._direction(
            self.backward_lstm, reverse_within_length(ids, lengths)
        )

    def _direction(self, lstm: nn.Module, ids: Tensor) -> Tensor:
        states, _ = lstm(self.dropout(self.embedding(ids[:, :-1])))
        logits = self.out(self.dropout(states))
        return self.loss(logits.flatten(0, 1), ids[:, 1:].flatten())


def fixed_length(texts: EncodedTexts, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """The texts of `rows` cut or padded to LENGTH: ids int64 (B, LENGTH), lengths int64 (B,)."""
    batch = collate(texts, rows)
    ids = torch.full((len(rows), LENGTH), PAD)
    kept = min(LENGTH, batch.ids.shape[1])
    ids[:, :kept] = batch.ids[:, :kept]
    return ids, batch.lengths.clamp(max=LENGTH)


class PlainTraining:
    """Steps of the plain model, on texts in a random order."""

    def __init__(self, config: BiLMConfig, vocabulary_size: int, texts: EncodedTexts, device: torch.device):
        self.model = PlainBiLM(config, vocabulary_size).to(device).train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self.texts = texts
        self.device = device

    def step(self, rows: np.ndarray) -> int:
        """One step on `rows`; returns how many tokens it learned from: real targets, those cut off not counted."""
        ids, lengths = fixed_length(self.texts, rows)
        loss = self.model(ids.to(self.device), lengths)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return int((lengths - 1).sum())
