"""BiLM: the bidirectional language model of Peters et al. 2018, section 3.1.

    ids (B, T)   <s> w1 w2 w3 </s>
    forward      reads left to right; its state at t has seen tokens <= t and predicts token t + 1
    backward     reads right to left; its state at t has seen tokens >= t and predicts token t - 1

The two directions share the token layer and the softmax and nothing else. Every text starts from a zero state, so its
vectors depend on nothing but itself (unless the original's stacks are told to carry theirs on).

Shapes: B texts, T tokens of the longest, D = `width`, V = vocabulary size, N = targets in a batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bilm.config import BiLMConfig
from bilm.modules.layers import Dropout
from bilm.modules.lstm import build_stack
from bilm.modules.softmax import build_softmax
from bilm.modules.token_layer import CHARACTERS_RATE, TokenLayer
from bilm.text.batching import Batch, mask_of, reverse_within_length
from bilm.text.vocabulary import UNK

DIRECTIONS = ("forward", "backward")


@dataclass(frozen=True)
class LMTargets:
    """What one direction is asked and knows: state n, (N, D), predicts target n, (N,). Padding is not among them."""

    states: Tensor
    targets: Tensor


class BiLM(nn.Module):
    """Token layer, one LSTM stack per direction, one softmax."""

    def __init__(self, config: BiLMConfig, vocabulary_size: int):
        super().__init__()
        self.config = config
        self.vocabulary_size = vocabulary_size
        self.tokens = TokenLayer(config.token_layer, vocabulary_size, config.width, config.characters)
        self.forward_lstm = build_stack(config)
        self.backward_lstm = build_stack(config)
        self.dropout = Dropout(config.dropout)
        self.softmax = build_softmax(config.softmax, config.width, vocabulary_size, config.cutoffs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for part in (self.tokens, self.forward_lstm, self.backward_lstm):
            part.reset_parameters()

    @property
    def output_dim(self) -> int:
        """Width of every layer of `encode`: 2D."""
        return 2 * self.config.width

    @property
    def num_layers(self) -> int:
        """Layers of `encode`: the token layer and the LSTMs."""
        return self.config.layers + 1

    def learning_rates(self, rate: float) -> list[tuple[nn.Module, float]]:
        """For build_optimizer: `rate` for all but the characters."""
        characters = self.tokens.characters
        return [(self, rate)] + ([] if characters is None else [(characters, rate * CHARACTERS_RATE)])

    def set_trainable(self, learns: bool) -> None:
        """Let what `encode` uses learn, or keep it as it is; the softmax, which it does not use, is kept."""
        self.requires_grad_(learns)
        if self.softmax is not None:
            self.softmax.requires_grad_(False)

    def encode(self, batch: Batch) -> list[Tensor]:
        """e0, e1, ..., each (B, T, 2D): e0 = [token; token], e_j = [forward; backward] of layer j at the same token.

        What stands at padding is arbitrary; leave it out by `mask_of(lengths, T)`.
        """
        x, forward, backward = self._read(batch)
        layers = [torch.cat([x, x], dim=-1).to(forward[0].dtype)]
        for f, b in zip(forward, backward, strict=True):
            layers.append(torch.cat([f, reverse_within_length(b, batch.lengths)], dim=-1))
        return layers

    def embed(self, batch: Batch, dtype: torch.dtype) -> Tensor:
        """e0 alone, (B, T, 2D), in the `dtype` of the others: one layer in fp32 would take the sum of all along."""
        x = self.tokens(batch.ids, batch.lexicon).to(dtype)
        return torch.cat([x, x], dim=-1)

    def _read(self, batch: Batch) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Token vectors, and the layers of both directions, each (B, T, D) and in its own reading order."""
        # One lookup for both: turning vectors around would cost more, in the backward pass, than turning ids.
        ids = torch.cat([batch.ids, reverse_within_length(batch.ids, batch.lengths)])
        x, turned = self.tokens(ids, batch.lexicon).chunk(2)
        return x, self.forward_lstm(x, batch.lengths), self.backward_lstm(turned, batch.lengths)

    def lm_targets(self, batch: Batch) -> dict[str, LMTargets]:
        """The targets of each direction and the top states that predict them, N = sum(lengths - 1) per direction.

        The backward direction is a forward one on reversed texts: in reading order, state t predicts token t + 1.
        """
        ids, lengths = batch.ids, batch.lengths
        # Counted on the CPU, where lengths live: a GPU need not stop and tell how many there are.
        places = mask_of(lengths - 1, ids.shape[1]).flatten().nonzero().squeeze(1).to(ids.device)
        _, forward, backward = self._read(batch)
        if self.config.reads_characters:
            ids = torch.where(ids < self.vocabulary_size, ids, UNK)
        return {
            direction: LMTargets(
                # The gradient of index_select takes a fifth of the time of that of an index in brackets.
                layers[-1].flatten(0, 1).index_select(0, places),
                read.flatten().index_select(0, places + 1),
            )
            for direction, layers, read in (
                ("forward", forward, ids),
                ("backward", backward, reverse_within_length(ids, lengths)),
            )
        }

    def forward(self, batch: Batch) -> Tensor:
        """Sum of the negative log-likelihoods (nats) per direction: fp32 (2,), each over sum(lengths - 1) targets."""
        assert self.softmax is not None, "a model without a softmax predicts nothing"
        both = self.lm_targets(batch)
        softmax = self.softmax
        return torch.stack([softmax.loss(self.dropout(p.states), p.targets) for p in both.values()])
