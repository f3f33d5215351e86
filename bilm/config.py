"""Every setting of the models and of their training, with its default and its help text; and the presets.

The commands turn these dataclasses into options (runtime/options.py), and the dataclasses are saved with the weights.
Nothing here imports torch, so that `--help` answers at once.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from bilm.runtime.options import setting

TOKEN_LAYERS = ("word", "char", "word+char")
# What a word is; see text/tokenizer.py.
WORD_RULES = ("unicode", "legacy")
# How a classifier combines the layers (modules/scalar_mix.py). In the first ones the language model is fixed, in the
# last one it is trained too.
FIXED_ENCODER_MODES = ("trainable", "frozen", "function")
MODES = (*FIXED_ENCODER_MODES, "finetune")
# The classifier that reads TF-IDF features as well (modules/hybrid.py).
HYBRID = "hybrid"
# The name of the mean of the probabilities of several classifiers.
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class TokenizerConfig:
    """How a text is split into words. Chosen on validation; docs/log.md has the comparison."""

    lowercase: bool = setting(True, "lower-case the text")
    max_tokens: int = setting(128, "words of a text that are read; what follows is ignored", at_least=1)
    # Not an option, but saved in bilstm.pt: one of WORD_RULES (text/tokenizer.py).
    word_rule: str = "unicode"

    def __post_init__(self) -> None:
        if self.word_rule not in WORD_RULES:
            raise ValueError(f"the word rule is {self.word_rule!r}; it can be {' or '.join(WORD_RULES)}")


@dataclass(frozen=True)
class VocabularyConfig:
    """Which words get their own vector."""

    min_count: int = setting(3, "occurrences in the training rows from which a word is in the vocabulary", at_least=1)
    max_words: int = setting(50_000, "largest size of the vocabulary", at_least=5)


@dataclass(frozen=True)
class CharCNNConfig:
    """The shape of the token layer that reads characters (modules/char_cnn.py). Raises ValueError if impossible."""

    dim: int = 16
    # (characters in a window, filters) of each convolution
    filters: tuple[tuple[int, int], ...] = ((1, 32), (2, 64), (3, 96), (4, 96), (5, 112), (6, 112))
    highways: int = 1
    projection: bool = True
    activation: str = "tanh"
    # of a word, including the marks of its beginning and end
    max_characters: int = 50

    def __post_init__(self) -> None:
        if self.activation not in ("relu", "tanh"):
            raise ValueError(f"the activation {self.activation!r} is neither relu nor tanh")
        if not 3 <= self.max_characters <= 1000:
            raise ValueError(f"words of {self.max_characters} characters are not between 3 and 1,000")
        if not self.filters or max(span for span, _ in self.filters) > self.max_characters:
            raise ValueError(f"filters {self.filters} do not fit into words of {self.max_characters} characters")


@dataclass(frozen=True)
class ProjectedLSTMConfig:
    """The recurrence of the original ELMo (modules/lstm.py); None: no clipping. Raises ValueError if impossible."""

    cell: int
    cell_clip: float | None
    projection_clip: float | None
    skip_connections: bool

    def __post_init__(self) -> None:
        for limit in (self.cell_clip, self.projection_clip):
            if limit is not None and not 0 < limit < math.inf:
                raise ValueError(f"{limit} is not a limit to clip to")


@dataclass(frozen=True)
class BiLMConfig:
    """The shape of the bidirectional language model."""

    token_layer: str = setting(
        "word",
        "how a word becomes a vector: by a table, from its characters, or as the sum of both",
        choices=TOKEN_LAYERS,
    )

    width: int = setting(
        256, "D: width of the token embedding and of the output of each LSTM layer", at_least=1, below=10**8
    )
    hidden: int | None = setting(
        None,
        "units of each LSTM, whose output is projected to the width (default: the width, not projected)",
        at_least=1,
        below=10**8,
    )
    layers: int = setting(2, "stacked LSTM layers per direction", at_least=1, below=100)
    dropout: float = setting(0.2, "dropout on the input and the output of every LSTM layer", below=1)
    softmax: str = setting(
        "adaptive",
        "output layer: adaptive (rare words get narrow clusters; several times faster on a CPU) or full",
        choices=("adaptive", "full"),
    )
    # The next fields are not options, but saved in bilstm.pt.
    # Ranks by frequency at which the shortlist and the clusters of the adaptive softmax end. On AG News the four parts
    # hold 66, 16, 13 and 5 % of all tokens; docs/log.md compares other cutoffs.
    cutoffs: tuple[int, ...] = (500, 2_000, 8_000)
    characters: CharCNNConfig = CharCNNConfig()
    recurrence: ProjectedLSTMConfig | None = None

    @property
    def units(self) -> int:
        """The number of units of each LSTM."""
        return self.hidden or self.width

    @property
    def reads_characters(self) -> bool:
        """Whether words outside the vocabulary have their own vectors."""
        return self.token_layer != "word"


def saved_config(config: BiLMConfig) -> dict[str, Any]:
    """The shape as plain values, for bilstm.pt.

    Earlier files have no `hidden`. It is left out where it is None, so that a model that both can describe has the same
    hash in both.
    """
    return {name: value for name, value in asdict(config).items() if name != "hidden" or value}


def bilm_config(saved: dict[str, Any]) -> BiLMConfig:
    """The inverse of `saved_config`. Raises TypeError or KeyError for any other dict."""
    recurrence = saved["recurrence"]
    return BiLMConfig(
        **{
            **saved,
            "characters": CharCNNConfig(**saved["characters"]),
            "recurrence": None if recurrence is None else ProjectedLSTMConfig(**recurrence),
        }
    )


@dataclass(frozen=True)
class ClassifierConfig:
    """The shape of the classifier that reads the combined layers."""

    hidden: int = setting(
        512, "width of the hidden layer, which is applied to each token before pooling", at_least=1, below=10**8
    )
    dropout: float = setting(0.3, "dropout before the hidden layer and before the output layer", below=1)
    label_smoothing: float = setting(
        0.05, "probability mass of the training target that is spread over the classes", below=1
    )


# The defaults are those of the language model; CLASSIFIER_FIT has those of the classifiers.
@dataclass(frozen=True)
class FitConfig:
    """The training loop, the same for the language model and the classifiers."""

    epochs: int = setting(8, "passes over the training rows", at_least=1)
    learning_rate: float = setting(1e-2, "peak learning rate of AdamW")
    warmup: float = setting(
        0.05, "share of the run in which the learning rate rises; then it falls on a cosine to 0", below=1
    )
    weight_decay: float = setting(0.01, "AdamW's weight decay, on matrices only")
    clip_norm: float = setting(1.0, "largest norm of the gradient; a longer one is scaled down; 0: none is")
    batch_tokens: int = setting(2048, "tokens in a batch, including padding", at_least=1)
    checkpoint_seconds: float = setting(60.0, "seconds between checkpoints; 0 writes one after every step")


# The defaults for the classifiers.
CLASSIFIER_FIT = FitConfig(epochs=4, learning_rate=2e-3)

# By name, what --preset changes in the defaults of ELMO.py and of classification.py; docs/performance.md has times.
# "best" is what the weights in models/ were trained with.
PRETRAINING: dict[str, dict[str, Any]] = {
    "fast": {"epochs": 3},
    "base": {},
    "best": {"epochs": 12, "dropout": 0.25},
}

CLASSIFICATION: dict[str, dict[str, Any]] = {
    "fast": {"mode": "function"},
    "base": {},
    "best": {"mode": "all", "epochs": 3, "dropout": 0.15},
}
