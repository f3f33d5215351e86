"""The output layers of the language model: states (N, D) -> losses, log-probabilities, most probable words.

FullSoftmax and AdaptiveSoftmax share one interface; losses and log-probabilities are fp32 whatever the autocast:
    loss(states (N, D), targets (N,)) -> ()         sum of -log p(target), for training
    nll(states (N, D), targets (N,))  -> (N,)       -log p(target); 0 where the target is IGNORE_INDEX
    log_probs(states (N, D))          -> (N, V)     the whole distribution
    topk(states (N, D), k)            -> (N, k)     ids of the k most probable words, most probable first
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Rows of a matrix product are padded to a multiple of this. oneDNN compiles and caches code for every new shape, which
# takes longer than the product, and the cache grows to gigabytes. On a CPU, padding saves a tenth of a training step.
ROWS = 32
# Scores that are computed at a time: 128 MB in fp32, and up to three times that at the peak.
_AT_ONCE = 2**25


def linear_cross_entropy(states: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum over n of -log softmax(weight @ states[n] + bias)[targets[n]], fp32 ().

    states (N, D), weight (V, D), bias (V,), targets int64 (N,). Under autocast the matrix products are in its dtype;
    all else is in fp32, whatever the dtype of the states.
    """
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    return _LinearCrossEntropy.apply(states, weight, bias, targets, dtype, torch.is_grad_enabled())


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes the gradients together with the loss, so that the scores need not be stored; backward() scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        dtype: torch.dtype,
        with_gradients: bool,
    ) -> Tensor:
        count, padding = len(states), -len(states) % ROWS
        x, w, b = F.pad(states.to(dtype), (0, 0, 0, padding)), weight.to(dtype), bias.to(dtype)
        targets = F.pad(targets, (0, padding))
        loss = torch.zeros((), device=states.device)
        if with_gradients:
            d_x, d_weight, d_bias = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        rows = max(ROWS, _AT_ONCE // len(weight) // ROWS * ROWS)
        for start in range(0, len(x), rows):
            chunk = slice(start, start + rows)
            columns = targets[chunk, None]
            log_probs = F.linear(x[chunk], w, b).float().log_softmax(-1)
            unpadded = min(rows, count - start)
            loss -= log_probs.gather(1, columns)[:unpadded].sum()
            if with_gradients:
                # d loss / d scores = probabilities, minus 1 at the target
                d_scores = log_probs.exp_().scatter_add_(1, columns, torch.full_like(columns, -1, dtype=torch.float32))
                d_scores[unpadded:] = 0.0
                d_bias.add_(d_scores.sum(0))
                d_scores = d_scores.to(dtype)
                d_x[chunk] = d_scores @ w
                d_weight.add_(d_scores.t() @ x[chunk])
        if with_gradients:
            ctx.save_for_backward(d_x[:count].to(states.dtype), d_weight, d_bias)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *(gradient * upstream[0] for gradient in ctx.saved_tensors), None, None, None


# Each cluster is this many times narrower than the one before it.
DIVISOR = 2
IGNORE_INDEX = -100
# In batches of static shape, 1 / this is the share of the states that each cluster is computed for. On AG News, the
# shares of the clusters in a batch are at most 18, 15 and 5 %.
_STATIC_SHARE = 4


class FullSoftmax(nn.Module):
    """One linear layer over the whole vocabulary."""

    def __init__(self, width: int, vocabulary_size: int):
        super().__init__()
        self.out = nn.Linear(width, vocabulary_size)

    def allows_static_shape(self, ids: Tensor, num_states: int) -> bool:
        """Its loss does not know IGNORE_INDEX."""
        return False

    def loss(self, states: Tensor, targets: Tensor, static_shape: bool = False) -> Tensor:
        assert not static_shape
        return linear_cross_entropy(states, self.out.weight, self.out.bias, targets)

    def nll(self, states: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.out(states).float(), targets, reduction="none")

    def log_probs(self, states: Tensor) -> Tensor:
        return self.out(states).float().log_softmax(-1)

    def topk(self, states: Tensor, k: int) -> Tensor:
        return self.out(states).topk(k, dim=-1).indices


class AdaptiveSoftmax(nn.Module):
    """Grave et al. 2017: a shortlist of frequent words, and clusters of rarer ones that are narrower.

    The head gives the probabilities of the shortlist's words and of each cluster, and p(word) = p(cluster)
    p(word | cluster). Ids should be ordered by decreasing frequency: another order is slower, and frequent words then
    have narrow vectors. Words that --start-from adds follow the old ones, so that they count as the rarest.

    AdaptiveLogSoftmaxWithLoss is not used because its log-softmax is in bf16 under autocast, an error in the third
    digit of the loss, and because it has no top k.
    """

    def __init__(self, width: int, vocabulary_size: int, cutoffs: tuple[int, ...]):
        super().__init__()
        self.edges = (*(c for c in cutoffs if c < vocabulary_size), vocabulary_size)
        self.shortlist = self.edges[0]
        self.clusters = list(pairwise(self.edges))  # first id, last id + 1
        self.head = nn.Linear(width, self.shortlist + len(self.edges) - 1)
        widths = [max(1, width // DIVISOR**i) for i in range(1, len(self.edges))]
        self.tails = nn.ModuleList(
            nn.Sequential(nn.Linear(width, narrow, bias=False), nn.Linear(narrow, high - low, bias=False))
            for narrow, (low, high) in zip(widths, self.clusters, strict=True)
        )

    def allows_static_shape(self, ids: Tensor, num_states: int) -> bool:
        """Whether `loss` can be computed with `static_shape`. ids: of the targets and others, on the CPU."""
        at_least = [np.count_nonzero(ids.numpy() >= edge) for edge in self.edges]
        return all(a - b <= num_states // _STATIC_SHARE for a, b in pairwise(at_least))

    def loss(self, states: Tensor, targets: Tensor, static_shape: bool = False) -> Tensor:
        return self.nll(states, targets, static_shape).sum()

    def nll(self, states: Tensor, targets: Tensor, static_shape: bool = False) -> Tensor:
        """static_shape: compute each cluster for equally many states, whatever the targets; see Batch."""
        count = len(targets)
        states, targets = (
            F.pad(states, (0, 0, 0, -count % ROWS)),
            F.pad(targets, (0, -count % ROWS), value=IGNORE_INDEX),
        )
        head_targets, inside = targets, []
        for i, (low, high) in enumerate(self.clusters):
            members = (targets >= low) & (targets < high)
            head_targets = torch.where(members, self.shortlist + i, head_targets)
            if static_shape:  # the members first, then others
                rows = members.to(torch.uint8).argsort(descending=True, stable=True)[: count // _STATIC_SHARE]
            else:
                rows = members.nonzero().squeeze(1)
            inside.append((rows, torch.where(members, targets - low, IGNORE_INDEX)[rows]))
        nll = F.cross_entropy(self.head(states).float(), head_targets, reduction="none", ignore_index=IGNORE_INDEX)
        # Clusters without a target are computed, too: DistributedDataParallel requires a gradient of every parameter in
        # every step.
        for tail, (rows, columns) in zip(self.tails, inside, strict=True):
            padding = (0, -len(rows) % ROWS)
            rows, columns = F.pad(rows, padding), F.pad(columns, padding, value=IGNORE_INDEX)
            within = F.cross_entropy(tail(states[rows]).float(), columns, reduction="none", ignore_index=IGNORE_INDEX)
            nll = nll.index_add(0, rows, within)
        return nll[:count]

    def log_probs(self, states: Tensor) -> Tensor:
        head = self.head(states).float().log_softmax(-1)
        within = [tail(states).float().log_softmax(-1) for tail in self.tails]
        rare = [head[:, self.shortlist + i, None] + log_probs for i, log_probs in enumerate(within)]
        return torch.cat([head[:, : self.shortlist], *rare], dim=1)

    def topk(self, states: Tensor, k: int) -> Tensor:
        """Exact. A cluster is computed only for the states where its probability exceeds that of the k-th best word."""
        head = self.head(states).float().log_softmax(-1)
        best, ids = head[:, : self.shortlist].topk(k, dim=-1)
        for i, (tail, (low, _)) in enumerate(zip(self.tails, self.clusters, strict=True)):
            cluster = head[:, self.shortlist + i]
            rows = (cluster > best[:, -1]).nonzero().squeeze(1)
            within = cluster[rows, None] + tail(states[rows]).float().log_softmax(-1)
            values, columns = within.topk(min(k, within.shape[1]), dim=-1)
            best[rows], choice = torch.cat([best[rows], values], dim=1).topk(k, dim=-1)
            ids[rows] = torch.cat([ids[rows], columns + low], dim=1).gather(1, choice)
        return ids


def build_softmax(
    kind: str, width: int, vocabulary_size: int, cutoffs: tuple[int, ...]
) -> FullSoftmax | AdaptiveSoftmax | None:
    """Build a softmax of `kind` "adaptive" or "full".

    "none" is for models without a softmax: the imported original, and finetuned encoders.
    """
    if kind == "none":
        return None
    if kind == "full":
        return FullSoftmax(width, vocabulary_size)
    if kind == "adaptive":
        return AdaptiveSoftmax(width, vocabulary_size, cutoffs)
    raise ValueError(f"unknown softmax {kind!r}")
