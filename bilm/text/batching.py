"""Encoded texts -> batches of like length.

    text 0   <s> stocks fell </s>                       ids      2 81 95  3  0  0      lengths  4
    text 1   <s> the coach resigned today </s>    ->             2  7 60 88 41  3               6

B texts, T tokens of the longest with its boundaries. Padding stands behind the text and is never looked at: the
LSTMs run left to right over it, and no sum counts it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bilm.runtime import threads
from bilm.text.vocabulary import PAD, EncodedTexts, Lexicon


@dataclass(frozen=True)
class Batch:
    """ids: int64 (B, T); lengths: int64 (B,), always on the CPU; rows: which texts these are, (B,).

    lexicon: the words that ids stand for; a model that reads no characters needs none.
    """

    ids: Tensor
    lengths: Tensor
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    lexicon: Lexicon | None = None

    def to(self, device: torch.device) -> "Batch":
        # From pinned memory a copy to a GPU goes on beside its work.
        ids = self.ids.pin_memory() if device.type == "cuda" else self.ids
        return replace(self, ids=ids.to(device, non_blocking=True))


def plan_batches(
    lengths: np.ndarray, batch_tokens: int, generator: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Rows of each batch, such that B x T (padding included) stays within `batch_tokens`.

    With a `generator` the texts are shuffled among their neighbours in length, and the batches among each other;
    without, the plan is sorted by length. A text longer than `batch_tokens` gets a batch of its own.
    """
    jitter = generator.uniform(0.0, 2.0, len(lengths)) if generator else 0.0
    order = np.argsort(lengths + jitter, kind="stable")
    batches, start, longest = [], 0, 0
    for stop, row in enumerate(order):
        longest = max(longest, int(lengths[row]))
        if stop > start and longest * (stop - start + 1) > batch_tokens:
            batches.append(order[start:stop])
            start, longest = stop, int(lengths[row])
    if start < len(order):
        batches.append(order[start:])
    if generator:
        batches = [batches[i] for i in generator.permutation(len(batches))]
    return batches


def epoch_batches(texts: EncodedTexts, rows: np.ndarray, batch_tokens: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The training batches of one epoch, as rows of `texts`: shuffled, and the same for the same seed and epoch."""
    generator = np.random.default_rng([seed, epoch])
    return [rows[chosen] for chosen in plan_batches(texts.lengths[rows], batch_tokens, generator)]


def collate(texts: EncodedTexts, rows: np.ndarray) -> Batch:
    """Pad the texts of `rows` to the longest of them."""
    starts, lengths = texts.offsets[rows], texts.offsets[rows + 1] - texts.offsets[rows]
    position = np.arange(lengths.max(initial=0))
    inside = position < lengths[:, None]
    ids = np.full(inside.shape, PAD, dtype=np.int64)
    ids[inside] = texts.ids[(starts[:, None] + position)[inside]]
    return Batch(torch.from_numpy(ids), torch.from_numpy(lengths), rows, texts.lexicon)


def iterate_batches(texts: EncodedTexts, rows: np.ndarray, batch_tokens: int) -> Iterator[Batch]:
    """Every one of `rows` once, shortest first, for evaluation; `Batch.rows` are among them."""
    for chosen in plan_batches(texts.lengths[rows], batch_tokens):
        yield collate(texts, rows[chosen])
        threads.after_step()


def mask_of(lengths: Tensor, width: int) -> Tensor:
    """bool (B, width): True on tokens, False on padding."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def reverse_within_length(x: Tensor, lengths: Tensor) -> Tensor:
    """Turn each row of `x` (B, T, ...) around within its own length; padding stays where it is.

    [a b c 0 0] with length 3 becomes [c b a 0 0]. Its own inverse.
    """
    position = torch.arange(x.shape[1], device=x.device)
    lengths = lengths.to(x.device)[:, None]
    source = torch.where(position < lengths, lengths - 1 - position, position)
    source += x.shape[1] * torch.arange(len(x), device=x.device)[:, None]
    return x.flatten(0, 1).index_select(0, source.flatten()).view(x.shape)
