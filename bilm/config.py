"""Every setting, its default and its help text, in one place.

The scripts turn these dataclasses into command-line options (utils.parse_options), and they are saved with the
weights they shaped. Nothing here imports torch, so that `--help` answers at once.
"""

from dataclasses import dataclass, field
from typing import Any


def setting(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field that carries its help text and its limits to the command line.

    limits: `choices`, or for a number `at_least` (default 0, or None where any will do) and `below`.
    """
    return field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True)
class TokenizerConfig:
    """How text becomes words. Chosen on validation; the comparison is in LOG.md."""

    lowercase: bool = setting(True, "lower-case the text")
    max_tokens: int = setting(128, "words of a text that are read; what follows is ignored", at_least=1)


@dataclass(frozen=True)
class VocabularyConfig:
    """Which words get a vector of their own."""

    min_count: int = setting(3, "occurrences in the training rows that a word needs to get in", at_least=1)
    max_words: int = setting(50_000, "size of the vocabulary at most", at_least=5)


@dataclass(frozen=True)
class BiLMConfig:
    """The shape of the bidirectional language model."""

    width: int = setting(256, "D: width of the token embedding and of each LSTM", at_least=1)
    layers: int = setting(2, "stacked LSTM layers per direction", at_least=1)
    dropout: float = setting(0.2, "dropout on the input and the output of every LSTM layer", below=1)
    softmax: str = setting(
        "adaptive",
        "output layer: adaptive (rare words get narrow clusters; several times faster on a CPU) or full",
        choices=("adaptive", "full"),
    )


@dataclass(frozen=True)
class ClassifierConfig:
    """The shape of the classifier that reads the combined layers."""

    hidden: int = setting(512, "width of the layer that each token passes before pooling", at_least=1)
    dropout: float = setting(0.3, "dropout before the hidden layer and before the output layer", below=1)
    label_smoothing: float = setting(
        0.05, "probability mass that the training target gives to the other classes", below=1
    )


@dataclass(frozen=True)
class FitConfig:
    """The training loop, the same for the language model and the classifiers."""

    epochs: int = setting(8, "passes over the training rows", at_least=1)
    learning_rate: float = setting(1e-2, "peak learning rate of AdamW")
    warmup: float = setting(
        0.05, "share of the run in which the learning rate rises; then it falls on a cosine to 0", below=1
    )
    weight_decay: float = setting(0.01, "AdamW's weight decay, on matrices only")
    clip_norm: float = setting(1.0, "largest norm of the gradient; a longer one is scaled down")
    batch_tokens: int = setting(2048, "tokens in a batch, padding counted in", at_least=1)
    checkpoint_seconds: float = setting(60.0, "seconds between checkpoints; 0 writes one after every step")
