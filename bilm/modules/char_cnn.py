"""Characters of words -> vectors: what the original ELMo has for a token layer, and ours where it is asked for."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bilm.config import CharCNNConfig
from bilm.modules.layers import maximum
from bilm.text.vocabulary import NUM_CHARACTERS, PAD, SPECIALS, WORD_PAD, characters_of

CHARACTER_STD = 0.3
# Words are convolved in blocks of so many, longest words last: less padding, and few shapes of products.
BLOCK = 128


class Highway(nn.Module):
    """Srivastava et al. 2015: t * relu(transform(x)) + (1 - t) * x with t = sigmoid(gate(x))."""

    def __init__(self, width: int):
        super().__init__()
        self.transform = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        share = self.gate(x).sigmoid()
        return share * self.transform(x).relu() + (1 - share) * x


class CharCNN(nn.Module):
    """Characters of words -> vectors: convolutions of several widths, maximum over time, highway layers, projection.

    Peters et al. 2018 after Kim et al. 2016.
    """

    def __init__(self, config: CharCNNConfig, width: int):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(NUM_CHARACTERS, config.dim, padding_idx=PAD)
        self.convolutions = nn.ModuleList(nn.Conv1d(config.dim, count, span) for span, count in config.filters)
        total = sum(count for _, count in config.filters)
        self.highways = nn.ModuleList(Highway(total) for _ in range(config.highways))
        self.projection = nn.Linear(total, width) if config.projection else nn.Identity()

    def reset_parameters(self, std: float) -> None:
        """Features and vectors that begin centred, the vectors of this `std` (Mishkin & Matas 2016, on made-up words).

        A maximum over time is well above zero in every word. Where features or vectors share an offset, each step of
        the optimizer moves the vectors of all words together, and the language model does not learn; LOG.md.
        """
        nn.init.normal_(self.embedding.weight, std=CHARACTER_STD)
        self.embedding.weight.data[PAD] = 0.0
        for highway in self.highways:
            nn.init.constant_(highway.gate.bias, -2.0)  # type: ignore[union-attr, arg-type]
        if self.embedding.weight.is_meta:
            return
        random = np.random.default_rng(0)
        words = ["".join(random.choice(list("abcdefghijklmnopqrstuvwxyz"), random.integers(1, 11))) for _ in range(999)]
        ids = np.arange(len(words)) + len(SPECIALS)
        characters = torch.from_numpy(characters_of(ids, words, self.config.max_characters))
        with torch.no_grad():
            x = self.embedding(characters.int()).transpose(1, 2)
            for convolution in self.convolutions:
                _standardize(convolution, 1.0, partial(_maxima, convolution, x))
            if isinstance(self.projection, nn.Linear):
                _standardize(self.projection, std, partial(self, characters))

    def forward(self, characters: Tensor) -> Tensor:
        """(U, `max_characters`), as `vocabulary.characters_of` numbers them -> (U, `width`)."""
        count = len(characters)
        characters = F.pad(characters, (0, 0, 0, -count % BLOCK), value=PAD)
        lengths = ((characters != WORD_PAD) & (characters != PAD)).sum(1)
        order = lengths.argsort()
        longest = lengths[order].view(-1, BLOCK)[:, -1].tolist()
        blocks = zip(order.split(BLOCK), longest, strict=True)
        filters = self._all_filters()
        x = torch.cat([self._convolve(characters[block].t().int(), most, *filters) for block, most in blocks])
        for highway in self.highways:
            x = highway(x)
        return self.projection(x).index_select(0, order.argsort()[:count])

    def _all_filters(self) -> tuple[Tensor, Tensor, Tensor]:
        """All convolutions as one product with windows of the widest: weights, biases, and how wide each filter is.

        A product of many small numbers of inputs is slow; zeros cost less.
        """
        widest = max(span for span, _ in self.config.filters)
        weights = [F.pad(c.weight, (0, widest - c.weight.shape[2])) for c in self.convolutions]  # type: ignore
        biases = torch.cat([c.bias for c in self.convolutions])  # type: ignore[misc]
        spans = torch.cat([torch.full((count,), span) for span, count in self.config.filters])
        return torch.cat(weights).transpose(1, 2).flatten(1), biases, spans.to(biases.device)

    def _convolve(self, characters: Tensor, longest: int, weights: Tensor, biases: Tensor, spans: Tensor) -> Tensor:
        """(L, U) of words up to `longest` characters -> the maximum of each filter over all windows: (U, filters)."""
        widest, last = int(spans.max()), self.config.max_characters
        # Beyond a word all windows see the same padding: the first of them stands for the rest.
        windows = longest + 1
        beyond = max(0, windows + widest - 1 - last)
        x = F.pad(self.embedding(characters[: windows + widest - 1]), (0, 0, 0, 0, 0, beyond))
        x = F.linear(torch.cat([x[start : start + windows] for start in range(widest)], dim=-1), weights, biases)
        if beyond:  # the windows that would reach over the end of the longest words
            starts = torch.arange(windows, device=x.device)
            x = x.masked_fill((starts[:, None] + spans > last)[:, None], float("-inf"))
        x = maximum(x, 0)
        return x.relu() if self.config.activation == "relu" else x.tanh()


def _maxima(convolution: nn.Module, x: Tensor) -> Tensor:
    return convolution(x).amax(2)


def _standardize(layer: nn.Module, std: float, outputs: Callable[[], Tensor]) -> None:
    """Draw the weights of `layer` such that `outputs` (words, features) have mean 0 and this standard deviation."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
    nn.init.normal_(weight)
    nn.init.zeros_(bias)
    weight.mul_(std / outputs().std(0).mean())
    bias.sub_(outputs().mean(0))
