"""BiLM: the bidirectional language model of Peters et al. 2018, section 3.1.

    ids (B, T)   <s> w1 w2 w3 </s>
    forward      reads left to right; its state at t has seen tokens <= t and predicts token t + 1
    backward     reads right to left; its state at t has seen tokens >= t and predicts token t - 1

The two directions share only the token layer and the softmax. Every text starts from a zero state, so its vectors
depend on that text alone (except with the stateful stacks of the original ELMo).

Shapes: B texts, T tokens of the longest, D = `width`, V = vocabulary size, N = targets in a batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bilm.config import BiLMConfig
from bilm.modules.encoder import Encoder
from bilm.modules.layers import Dropout
from bilm.modules.lstm import build_stack
from bilm.modules.softmax import IGNORE_INDEX, build_softmax
from bilm.modules.token_layer import CHARACTERS_RATE, TokenLayer
from bilm.text.batching import Batch, mask_of, reverse_within_length
from bilm.text.vocabulary import UNK

DIRECTIONS = ("forward", "backward")


@dataclass(frozen=True)
class LMTargets:
    """Targets of one direction, int64 (N,), and the states (N, D) that predict them.

    Padding is left out, but in batches of static shape: there N = B * T, and padding has the target IGNORE_INDEX.
    """

    states: Tensor
    targets: Tensor


class BiLM(Encoder):
    """A token layer, one LSTM stack per direction, and one softmax."""

    def __init__(self, config: BiLMConfig, vocabulary_size: int):
        super().__init__()
        self.config = config
        self.vocabulary_size = vocabulary_size
        self.num_layers = config.layers + 1  # of `encode`: the token layer and the LSTMs
        self.output_dim = 2 * config.width
        self.tokens = TokenLayer(config.token_layer, vocabulary_size, config.width, config.characters)
        self.forward_lstm = build_stack(config)
        self.backward_lstm = build_stack(config)
        self.dropout = Dropout(config.dropout)
        self.softmax = build_softmax(config.softmax, config.width, vocabulary_size, config.cutoffs)
        for part in (self.tokens, self.forward_lstm, self.backward_lstm):
            part.reset_parameters()

    def learning_rates(self, rate: float) -> list[tuple[nn.Module, float]]:
        """`rate` for all weights but those of the characters, which are trained at a lower one."""
        characters = self.tokens.characters
        return [(self, rate)] + ([] if characters is None else [(characters, rate * CHARACTERS_RATE)])

    def set_trainable(self, trainable: bool) -> None:
        """Make the weights that `encode` uses trainable, or fix them; those of the softmax, unused, are fixed."""
        super().set_trainable(trainable)
        if self.softmax is not None:
            self.softmax.requires_grad_(False)

    @property
    def encodes_static_shapes(self) -> bool:
        return self.config.recurrence is None and not self.config.reads_characters

    def allows_static_shape(self, batch: Batch, num_tokens: int) -> bool:
        """Whether the loss of `batch`, padded to `num_tokens` ids, can be computed as one of static shape."""
        if self.softmax is None or not self.encodes_static_shapes:
            return False
        return self.softmax.allows_static_shape(batch.ids if batch.host_ids is None else batch.host_ids, num_tokens)

    def encode(self, batch: Batch) -> list[Tensor]:
        """e0, e1, ..., each (B, T, 2D): e0 = [token; token], e_j = [forward; backward] of layer j at the same token.

        The vectors at padding are arbitrary; `mask_of(lengths, T)` is False there.
        """
        x, forward, backward = self._read(batch)
        e0 = torch.cat([x, x], dim=-1).to(forward[0].dtype)
        pairs = zip(forward, backward, strict=True)
        return [e0, *(torch.cat([f, reverse_within_length(b, batch.lengths)], dim=-1) for f, b in pairs)]

    def embed(self, batch: Batch, dtype: torch.dtype) -> Tensor:
        """Compute e0 alone, (B, T, 2D), as `dtype`, that of the other layers: e0 in fp32 would make their sum fp32."""
        x = self.tokens(batch.ids, batch.lexicon).to(dtype)
        return torch.cat([x, x], dim=-1)

    def _read(self, batch: Batch) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Token vectors, and the layers of both directions in their reading orders, each (B, T, D)."""
        # One lookup for both directions: in the backward pass, reversing vectors would cost more than reversing ids.
        ids = torch.cat([batch.ids, reverse_within_length(batch.ids, batch.lengths)])
        x, reversed_x = self.tokens(ids, batch.lexicon).chunk(2)
        return x, self.forward_lstm(x, batch.lengths), self.backward_lstm(reversed_x, batch.lengths)

    def lm_targets(self, batch: Batch) -> dict[str, LMTargets]:
        """The targets of each direction and the top states that predict them, N = sum(lengths - 1) per direction.

        The backward direction reads reversed texts: in both reading orders, state t predicts token t + 1.
        """
        ids, lengths = batch.ids, batch.lengths
        _, forward, backward = self._read(batch)
        ids = torch.where(ids < self.vocabulary_size, ids, UNK)
        select = self._all_positions if batch.has_static_shape else self._positions_with_target
        return {
            direction: select(layers[-1], ids_read, mask_of(lengths - 1, ids.shape[1]))
            for direction, layers, ids_read in (
                ("forward", forward, ids),
                ("backward", backward, reverse_within_length(ids, lengths)),
            )
        }

    @staticmethod
    def _positions_with_target(states: Tensor, ids: Tensor, has_target: Tensor) -> LMTargets:
        """States (B, T, D), ids (B, T) in the same order, has_target bool (B, T)."""
        # On the CPU, which has the lengths: `nonzero` would wait for a GPU to learn how many there are.
        positions = has_target.flatten().nonzero().squeeze(1).to(ids.device)
        # The gradient of index_select takes a fifth of the time of that of x[positions].
        return LMTargets(states.flatten(0, 1).index_select(0, positions), ids.flatten().index_select(0, positions + 1))

    @staticmethod
    def _all_positions(states: Tensor, ids: Tensor, has_target: Tensor) -> LMTargets:
        """See `_positions_with_target`."""
        return LMTargets(states.flatten(0, 1), torch.where(has_target, ids.roll(-1, 1), IGNORE_INDEX).flatten())

    def forward(self, batch: Batch) -> Tensor:
        """Sum of the negative log-likelihoods (nats) per direction: fp32 (2,), each over sum(lengths - 1) targets."""
        softmax = self.softmax
        assert softmax is not None, "a model without a softmax has no loss"
        both, fixed = self.lm_targets(batch).values(), batch.has_static_shape
        return torch.stack([softmax.loss(self.dropout(lm.states), lm.targets, fixed) for lm in both])
