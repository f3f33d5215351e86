"""A text classifier on the layers of an encoder: combination, one hidden layer per token, pooling, output."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bilm.config import ClassifierConfig
from bilm.modules.encoder import Encoder
from bilm.modules.hybrid import HybridClassifier
from bilm.modules.layers import Dropout, masked_mean_max
from bilm.modules.scalar_mix import build_combiner
from bilm.text.batching import Batch, mask_of


class Classifier(nn.Module):
    """Layers, each (B, T, E) -> logits (B, C).

    Pools over all tokens, including the boundaries: the state at </s> depends on the whole text, and a text without
    words still gets a class. The logits are divided by `temperature`, which training.calibration sets afterwards.
    """

    temperature: Tensor

    def __init__(self, config: ClassifierConfig, mode: str, encoder: Encoder, num_classes: int, seed: int):
        super().__init__()
        self.config = config
        self.mode = mode
        self.num_classes = num_classes
        self.combine = build_combiner(mode, encoder.num_layers, encoder.output_dim, seed)
        self.dropout = Dropout(config.dropout)
        self.hidden = nn.Linear(encoder.output_dim, config.hidden)
        self.out = nn.Linear(2 * config.hidden, num_classes)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, layers: Sequence[Tensor], batch: Batch) -> Tensor:
        x = self.hidden(self.dropout(self.combine(layers))).relu()
        pooled = masked_mean_max(x, mask_of(batch.lengths, x.shape[1]).to(x.device))
        # In fp32: a product with only C outputs is not faster in bf16.
        with torch.autocast(pooled.device.type, enabled=False):
            return self.out(self.dropout(pooled.float())) / self.temperature

    def loss(self, layers: Sequence[Tensor], batch: Batch, labels: Tensor) -> Tensor:
        """Sum over the batch of the cross-entropy with label smoothing, nats."""
        smoothing = self.config.label_smoothing
        return F.cross_entropy(self(layers, batch), labels, reduction="sum", label_smoothing=smoothing)


class EncoderClassifier(nn.Module):
    """An encoder and a classifier as one module; `finetuned` decides whether the encoder is trained, too.

    An encoder that is not finetuned stays in eval mode, is computed without a graph, and its parameters get no
    gradient.
    """

    def __init__(self, encoder: Encoder, classifier: Classifier | HybridClassifier, finetuned: bool):
        super().__init__()
        encoder.set_trainable(finetuned)
        self.encoder = encoder
        self.classifier = classifier
        self.finetuned = finetuned

    def train(self, mode: bool = True) -> "EncoderClassifier":
        super().train(mode)
        self.encoder.train(mode and self.finetuned)
        return self

    def allows_static_shape(self, batch: Batch, num_tokens: int) -> bool:
        """Whether the loss of `batch`, padded to `num_tokens` ids, can be computed as one of static shape."""
        return self.encoder.encodes_static_shapes and isinstance(self.classifier, Classifier)

    def layers(self, batch: Batch, upper: Sequence[Tensor] | None = None) -> list[Tensor]:
        """e0, e1, ..., each (B, T, E); only e0 is computed where `upper` holds the others."""
        with torch.set_grad_enabled(self.finetuned and torch.is_grad_enabled()):
            if upper is None:
                return self.encoder.encode(batch)
            return [self.encoder.embed(batch, upper[0].dtype), *upper]

    def forward(self, batch: Batch, labels: Tensor | None = None, upper: Sequence[Tensor] | None = None) -> Tensor:
        """Logits (B, C), or with `labels` (B,) the summed loss, (). `upper`: e1, e2, ... if computed before."""
        layers = self.layers(batch, upper)
        if labels is None:
            return self.classifier(layers, batch)
        assert isinstance(self.classifier, Classifier), "a hybrid classifier is not trained by its loss"
        return self.classifier.loss(layers, batch, labels)
