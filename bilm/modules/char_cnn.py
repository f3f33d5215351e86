"""Characters of words -> vectors: the token layer of the original ELMo, optional here."""

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
# Words are sorted by length and convolved in blocks of this many: less padding, and few shapes of matrix products.
BLOCK = 128


class Highway(nn.Module):
    """Srivastava et al. 2015: t * relu(transform(x)) + (1 - t) * x with t = sigmoid(gate(x))."""

    def __init__(self, width: int):
        super().__init__()
        self.transform = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        t = self.gate(x).sigmoid()
        return t * self.transform(x).relu() + (1 - t) * x


class CharCNN(nn.Module):
    """Convolutions of several widths over the characters of words, maximum over time, highway layers, projection.

    Peters et al. 2018, after Kim et al. 2016.
    """

    def __init__(self, config: CharCNNConfig, width: int):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(NUM_CHARACTERS, config.dim, padding_idx=PAD)
        self.convolutions = nn.ModuleList(nn.Conv1d(config.dim, count, span) for span, count in config.filters)
        total = sum(count for _, count in config.filters)
        self.highways = nn.Sequential(*(Highway(total) for _ in range(config.highways)))
        self.projection = nn.Linear(total, width) if config.projection else nn.Identity()

    def reset_parameters(self, std: float) -> None:
        """Data-dependent initialisation (Mishkin & Matas 2016): for random words, mean 0, and vectors of this `std`.

        A maximum over time is well above zero for every word. Where features or vectors share an offset, each step of
        the optimizer moves the vectors of all words together, and the language model does not learn; docs/log.md.
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
        """Character ids of `vocabulary.characters_of`, (U, `max_characters`) -> (U, `width`)."""
        count = len(characters)
        characters = F.pad(characters, (0, 0, 0, -count % BLOCK), value=PAD)
        lengths = ((characters != WORD_PAD) & (characters != PAD)).sum(1)
        order = lengths.argsort()
        longest = lengths[order].view(-1, BLOCK)[:, -1].tolist()
        blocks = zip(torch.split(order, BLOCK), longest, strict=True)
        filters = self._all_filters()
        x = torch.cat([self._convolve(characters[block].t().int(), length, *filters) for block, length in blocks])
        return self.projection(self.highways(x)).index_select(0, order.argsort()[:count])

    def _all_filters(self) -> tuple[Tensor, Tensor, Tensor]:
        """All convolutions as one matrix product over windows of the widest: weights, biases, width of each filter.

        Narrow filters are padded with zeros: that costs less than several products with few inputs each.
        """
        widest = max(span for span, _ in self.config.filters)
        weights = [F.pad(c.weight, (0, widest - c.weight.shape[2])) for c in self.convolutions]  # type: ignore
        biases = torch.cat([c.bias for c in self.convolutions])  # type: ignore[misc]
        spans = torch.cat([torch.full((count,), span) for span, count in self.config.filters])
        return torch.cat(weights).transpose(1, 2).flatten(1), biases, spans.to(biases.device)

    def _convolve(self, characters: Tensor, longest: int, weights: Tensor, biases: Tensor, spans: Tensor) -> Tensor:
        """(L characters, U words) -> the maximum of each filter over all windows: (U, filters)."""
        widest, last = int(spans.max()), self.config.max_characters
        # All windows beyond a word contain the same padding: one of them is computed for all.
        windows = longest + 1
        beyond = max(0, windows + widest - 1 - last)
        x = F.pad(self.embedding(characters[: windows + widest - 1]), (0, 0, 0, 0, 0, beyond))
        x = F.linear(torch.cat([x[start : start + windows] for start in range(widest)], dim=-1), weights, biases)
        if beyond:  # leave out the windows that extend beyond `max_characters`
            starts = torch.arange(windows, device=x.device)
            x = x.masked_fill((starts[:, None] + spans > last)[:, None], float("-inf"))
        x = maximum(x, 0)
        return x.relu() if self.config.activation == "relu" else x.tanh()


def _maxima(convolution: nn.Module, x: Tensor) -> Tensor:
    return convolution(x).amax(2)


def _standardize(layer: nn.Module, std: float, outputs: Callable[[], Tensor]) -> None:
    """Draw the weights of `layer` so that `outputs`, (words, features), have mean 0 and standard deviation `std`."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
    nn.init.normal_(weight)
    nn.init.zeros_(bias)
    weight.mul_(std / outputs().std(0).mean())
    bias.sub_(outputs().mean(0))
