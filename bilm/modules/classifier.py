"""A text classifier on the layers of an encoder.

An encoder is any module with
    encode(batch)          -> J layers, each (B, T, E)
    embed(batch, dtype)    -> the first of them
    num_layers = J, output_dim = E
    tune(learns)           let the weights that encode uses learn, or keep them
    learning_rates(rate)   of its parts, for build_optimizer
such as BiLM. The classifier owns what comes after: combination, one hidden layer per token, pooling, output.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bilm.config import ClassifierConfig
from bilm.modules.layers import Dropout, masked_mean_max
from bilm.modules.scalar_mix import build_combiner
from bilm.text.batching import Batch, mask_of


class Encoder(Protocol):
    """What a classifier stands on: also an nn.Module."""

    @property
    def num_layers(self) -> int: ...

    @property
    def output_dim(self) -> int: ...

    def encode(self, batch: Batch) -> list[Tensor]: ...

    def embed(self, batch: Batch, dtype: torch.dtype) -> Tensor: ...

    def set_trainable(self, learns: bool) -> None: ...

    def learning_rates(self, rate: float) -> list[tuple[nn.Module, float]]: ...


class Classifier(nn.Module):
    """Layers -> logits (B, C).

    Pools over every token, the boundaries too: the state at </s> has seen the whole text, and a text without a word
    still has a class.
    """

    def __init__(self, config: ClassifierConfig, mode: str, encoder: Encoder, num_classes: int, seed: int):
        super().__init__()
        num_layers, dim = encoder.num_layers, encoder.output_dim
        self.config = config
        self.mode = mode
        self.num_classes = num_classes
        self.combine = build_combiner(mode, num_layers, dim, seed)
        self.dropout = Dropout(config.dropout)
        self.hidden = nn.Linear(dim, config.hidden)
        self.out = nn.Linear(2 * config.hidden, num_classes)

    def forward(self, layers: Sequence[Tensor], batch: Batch) -> Tensor:
        x = self.hidden(self.dropout(self.combine(layers))).relu()
        pooled = masked_mean_max(x, mask_of(batch.lengths, x.shape[1]).to(x.device))
        # In fp32: four outputs are too few for a product in bf16 to be fast.
        with torch.autocast(pooled.device.type, enabled=False):
            return self.out(self.dropout(pooled.float()))

    def loss(self, layers: Sequence[Tensor], batch: Batch, labels: Tensor) -> Tensor:
        """Sum over the batch of the smoothed cross-entropy, nats."""
        smoothing = self.config.label_smoothing
        return F.cross_entropy(self(layers, batch), labels, reduction="sum", label_smoothing=smoothing)


class EncoderClassifier(nn.Module):
    """An encoder and a classifier as one module; `tuned` says whether the encoder's weights learn too.

    An encoder that is not tuned stays in eval mode, computes without a graph, and its parameters get no gradient.
    """

    def __init__(self, encoder: nn.Module, classifier: Classifier, finetuned: bool):
        super().__init__()
        encoder.set_trainable(finetuned)  # type: ignore[operator]
        self.encoder = encoder
        self.classifier = classifier
        self.finetuned = finetuned

    def train(self, mode: bool = True) -> "EncoderClassifier":
        super().train(mode)
        self.encoder.train(mode and self.finetuned)
        return self

    def layers(self, batch: Batch) -> list[Tensor]:
        with torch.set_grad_enabled(self.finetuned and torch.is_grad_enabled()):
            return self.encoder.encode(batch)  # type: ignore[operator]

    def forward(self, batch: Batch, labels: Tensor | None = None, upper: Sequence[Tensor] | None = None) -> Tensor:
        """Logits (B, C); with `labels` (B,) the summed loss instead. `upper`: e1, e2, ... where they are known."""
        if upper is None:
            layers = self.layers(batch)
        else:
            with torch.no_grad():
                layers = [self.encoder.embed(batch, upper[0].dtype), *upper]  # type: ignore[operator]
        if labels is None:
            return self.classifier(layers, batch)
        return self.classifier.loss(layers, batch, labels)
