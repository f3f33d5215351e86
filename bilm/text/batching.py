"""Group encoded texts into padded batches of similar length.

    text 0   <s> stocks fell </s>                       ids      2 81 95  3  0  0      lengths  4
    text 1   <s> the coach resigned today </s>    ->             2  7 60 88 41  3               6

B texts, T tokens of the longest one with its boundaries. Padding follows the text and has no effect: the LSTMs process
the text before it, and no sum includes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bilm.runtime import threads
from bilm.text.vocabulary import PAD, EncodedTexts, Lexicon

# Tokens in a batch, with padding, in inference. On a CPU, larger batches leave its caches (docs/log.md); on a GPU they
# are fewer kernels.
CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 4096, 16384
# Tokens whose vectors are kept at a time, unless one text has more: texts that are tokenised already may be long. In
# three layers of width 512, 400 MB.
TOKENS_AT_ONCE = 2**16


@dataclass(frozen=True)
class Batch:
    """ids: int64 (B, T); lengths: int64 (B,), on the CPU; rows: int64 (B,), the index of each text.

    lexicon: the words of the ids; only models that read characters, and hybrid classifiers, need it.
    host_ids: the ids on the CPU, where they can be counted without waiting for a GPU; None if `ids` are there.
    has_static_shape: nothing that is computed from the batch may have a shape that depends on more than B and T, as
    CUDA graphs require (training/cuda_graphs.py); then `lengths` is on the device of the ids.
    """

    ids: Tensor
    lengths: Tensor
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    lexicon: Lexicon | None = None
    host_ids: Tensor | None = None
    has_static_shape: bool = False

    def words(self) -> list[list[str]]:
        """Return the words of each text, without its boundaries. Raises ValueError without a lexicon."""
        if self.lexicon is None:
            raise ValueError("these texts have no words, only ids")
        words = self.lexicon.words
        return [
            [words[i] for i in ids[1 : n - 1]] for ids, n in zip(self.ids.tolist(), self.lengths.tolist(), strict=True)
        ]

    def to(self, device: torch.device) -> "Batch":
        # A copy from pinned memory to a GPU runs in parallel to the GPU's work.
        ids = self.ids.pin_memory() if device.type == "cuda" else self.ids
        return replace(self, ids=ids.to(device, non_blocking=True), host_ids=self.ids)


def inference_batch_tokens(device: torch.device) -> int:
    """Return `batch_tokens` for `iterate_batches` where nothing is trained."""
    return CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS


def evaluation_batch_tokens(device: torch.device) -> int:
    """Return `batch_tokens` for `iterate_batches` where vectors of many texts are computed once, or words predicted."""
    return 2 * CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS


def plan_batches(
    lengths: np.ndarray, batch_tokens: int, generator: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Return the rows of each batch, such that B x T, with padding, is at most `batch_tokens`.

    lengths: int (N,). With a `generator`, texts of similar length are shuffled, and so is the order of the batches;
    without it, texts are sorted by length. A text longer than `batch_tokens` is a batch by itself.
    """
    jitter = generator.uniform(0.0, 2.0, len(lengths)) if generator else 0.0
    order = np.argsort(lengths + jitter, kind="stable")
    boundaries, start, longest = [], 0, 0
    for stop, row in enumerate(order):
        longest = max(longest, int(lengths[row]))
        if stop > start and longest * (stop - start + 1) > batch_tokens:
            boundaries.append(stop)
            start, longest = stop, int(lengths[row])
    batches = np.split(order, boundaries) if len(order) else []
    return [batches[i] for i in generator.permutation(len(batches))] if generator else batches


def epoch_batches(texts: EncodedTexts, rows: np.ndarray, batch_tokens: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the training batches of one epoch as rows of `texts`: shuffled, as a function of seed and epoch."""
    generator = np.random.default_rng([seed, epoch])
    return [rows[indices] for indices in plan_batches(texts.lengths[rows], batch_tokens, generator)]


def collate(texts: EncodedTexts, rows: np.ndarray) -> Batch:
    """Pad the texts of `rows` to the longest of them."""
    starts, lengths = texts.offsets[rows], texts.offsets[rows + 1] - texts.offsets[rows]
    position = np.arange(lengths.max(initial=0))
    is_token = position < lengths[:, None]
    ids = np.full(is_token.shape, PAD, dtype=np.int64)
    ids[is_token] = texts.ids[(starts[:, None] + position)[is_token]]
    return Batch(torch.from_numpy(ids), torch.from_numpy(lengths), rows, texts.lexicon)


def iterate_batches(texts: EncodedTexts, rows: np.ndarray, batch_tokens: int) -> Iterator[Batch]:
    """Yield each of `rows` once, shortest first, for evaluation; `Batch.rows` are rows of `texts`."""
    for indices in plan_batches(texts.lengths[rows], batch_tokens):
        yield collate(texts, rows[indices])
        threads.after_step()


def consecutive_parts(lengths: Sequence[int]) -> Iterator[slice]:
    """Divide texts of these lengths into consecutive parts of at most TOKENS_AT_ONCE tokens, or of one longer text."""
    start = size = 0
    for number, length in enumerate(lengths):
        if number > start and size + length > TOKENS_AT_ONCE:
            yield slice(start, number)
            start, size = number, 0
        size += length
    yield slice(start, len(lengths))


def mask_of(lengths: Tensor, width: int) -> Tensor:
    """Return bool (B, width): True at tokens, False at padding."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def reverse_within_length(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each row of `x` (B, T, ...) within its length; padding stays in place.

    [a b c 0 0] with length 3 becomes [c b a 0 0]. The function is its own inverse.
    """
    position = torch.arange(x.shape[1], device=x.device)
    lengths = lengths.to(x.device)[:, None]
    source = torch.where(position < lengths, lengths - 1 - position, position)
    source += x.shape[1] * torch.arange(len(x), device=x.device)[:, None]
    return x.flatten(0, 1).index_select(0, source.flatten()).view(x.shape)
