"""The output layers of the language model: states (N, D) -> losses, log-probabilities, likeliest words.

FullSoftmax and AdaptiveSoftmax share one interface, and everything they return is fp32 whatever the autocast:
    loss(states (N, D), targets (N,)) -> ()         sum of -log p(target), with a gradient: for training
    nll(states (N, D), targets (N,))  -> (N,)       -log p(target)
    log_probs(states (N, D))          -> (N, V)     the whole distribution
    topk(states (N, D), k)            -> (N, k)     ids of the k likeliest words, likeliest first
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Rows of a matrix product are padded to a multiple of this. oneDNN makes and keeps code for every shape it meets: that
# takes longer than the product, and grows to gigabytes. On a CPU this saves a tenth of a training step.
ROWS = 32
# Scores handled at once: 128 MB in fp32, up to three times that at the peak.
_AT_ONCE = 2**25


def linear_cross_entropy(states: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum over n of -log softmax(weight @ states[n] + bias)[targets[n]], fp32 ().

    states (N, D), weight (V, D), bias (V,), targets int64 (N,). Under autocast the products are in its type; the rest
    is in fp32, whatever the type of the states.
    """
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    return _LinearCrossEntropy.apply(states, weight, bias, targets, dtype, torch.is_grad_enabled())


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradients are known with the loss; backward() only scales them."""

    @staticmethod
    def forward(ctx: Any, states, weight, bias, targets, dtype, with_gradients) -> Tensor:
        count, padding = len(states), -len(states) % ROWS
        x, w, b = F.pad(states.to(dtype), (0, 0, 0, padding)), weight.to(dtype), bias.to(dtype)
        targets = F.pad(targets, (0, padding))
        loss = torch.zeros((), device=states.device)
        if with_gradients:
            grads = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        rows = max(ROWS, _AT_ONCE // len(weight) // ROWS * ROWS)
        for start in range(0, len(x), rows):
            here = slice(start, start + rows)
            asked = targets[here, None]
            log_probs = F.linear(x[here], w, b).float().log_softmax(-1)
            real = min(rows, count - start)
            loss -= log_probs.gather(1, asked)[:real].sum()
            if with_gradients:
                # d loss / d scores = probabilities - 1 at the target
                scores = log_probs.exp_().scatter_add_(1, asked, torch.full_like(asked, -1, dtype=torch.float32))
                scores[real:] = 0.0
                grads[2].add_(scores.sum(0))
                scores = scores.to(dtype)
                grads[0][here] = scores @ w
                grads[1].add_(scores.t() @ x[here])
        if with_gradients:
            ctx.save_for_backward(grads[0][:count].to(states.dtype), *grads[1:])
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *(gradient * upstream[0] for gradient in ctx.saved_tensors), None, None, None


# Each cluster is this many times narrower than the one before it.
DIVISOR = 2
_NO_TARGET = -100


class FullSoftmax(nn.Module):
    """One linear layer over the whole vocabulary."""

    def __init__(self, width: int, vocabulary_size: int):
        super().__init__()
        self.out = nn.Linear(width, vocabulary_size)

    def loss(self, states: Tensor, targets: Tensor) -> Tensor:
        return linear_cross_entropy(states, self.out.weight, self.out.bias, targets)

    def nll(self, states: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.out(states).float(), targets, reduction="none")

    def log_probs(self, states: Tensor) -> Tensor:
        return self.out(states).float().log_softmax(-1)

    def topk(self, states: Tensor, k: int) -> Tensor:
        return self.out(states).topk(k, dim=-1).indices


class AdaptiveSoftmax(nn.Module):
    """Grave et al. 2017: a shortlist of frequent words, and clusters of rarer ones that are narrower.

    The head gives probabilities to the words of the shortlist and to each cluster as a whole, and p(word) = p(cluster)
    p(word | cluster). Ids must be sorted by falling frequency. PyTorch's own class computes its log-softmax in
    bf16 under autocast, which blurs the loss in the third digit, and does not give the k likeliest words; hence this.
    """

    def __init__(self, width: int, vocabulary_size: int, cutoffs: tuple[int, ...]):
        super().__init__()
        self.edges = (*(c for c in cutoffs if c < vocabulary_size), vocabulary_size)
        self.shortlist = self.edges[0]
        self.head = nn.Linear(width, self.shortlist + len(self.edges) - 1)
        self.tails = nn.ModuleList()
        for i, (low, high) in enumerate(self._clusters()):
            narrow = max(1, width // DIVISOR ** (i + 1))
            self.tails.append(
                nn.Sequential(nn.Linear(width, narrow, bias=False), nn.Linear(narrow, high - low, bias=False))
            )

    def _clusters(self) -> list[tuple[int, int]]:
        return list(zip(self.edges[:-1], self.edges[1:], strict=True))

    def loss(self, states: Tensor, targets: Tensor) -> Tensor:
        return self.nll(states, targets).sum()

    def nll(self, states: Tensor, targets: Tensor) -> Tensor:
        count = len(targets)
        states, targets = F.pad(states, (0, 0, 0, -count % ROWS)), F.pad(targets, (0, -count % ROWS), value=_NO_TARGET)
        head_targets = targets
        inside = []
        for i, (low, high) in enumerate(self._clusters()):
            members = (targets >= low) & (targets < high)
            head_targets = torch.where(members, self.shortlist + i, head_targets)
            inside.append(members.nonzero().squeeze(1))
        nll = F.cross_entropy(self.head(states).float(), head_targets, reduction="none", ignore_index=_NO_TARGET)
        # Clusters without a target are computed too: every parameter gets a gradient in every step, as
        # DistributedDataParallel requires.
        for tail, rows, (low, _) in zip(self.tails, inside, self._clusters(), strict=True):
            padding = (0, -len(rows) % ROWS)
            asked, rows = F.pad(targets[rows] - low, padding, value=_NO_TARGET), F.pad(rows, padding)
            within = F.cross_entropy(tail(states[rows]).float(), asked, reduction="none", ignore_index=_NO_TARGET)
            nll = nll.index_add(0, rows, within)
        return nll[:count]

    def log_probs(self, states: Tensor) -> Tensor:
        head = self.head(states).float().log_softmax(-1)
        parts = [head[:, : self.shortlist]]
        for i, tail in enumerate(self.tails):
            parts.append(head[:, self.shortlist + i, None] + tail(states).float().log_softmax(-1))
        return torch.cat(parts, dim=1)

    def topk(self, states: Tensor, k: int) -> Tensor:
        """Exact; but a cluster is opened only for states that give it, as a whole, more than their k-th best word."""
        head = self.head(states).float().log_softmax(-1)
        best, ids = head[:, : self.shortlist].topk(k, dim=-1)
        for i, (tail, (low, _)) in enumerate(zip(self.tails, self._clusters(), strict=True)):
            cluster = head[:, self.shortlist + i]
            rows = (cluster > best[:, -1]).nonzero().squeeze(1)
            within = cluster[rows, None] + tail(states[rows]).float().log_softmax(-1)
            value, place = within.topk(min(k, within.shape[1]), dim=-1)
            value, choice = torch.cat([best[rows], value], dim=1).topk(k, dim=-1)
            best[rows] = value
            ids[rows] = torch.cat([ids[rows], place + low], dim=1).gather(1, choice)
        return ids


def build_softmax(
    kind: str, width: int, vocabulary_size: int, cutoffs: tuple[int, ...]
) -> FullSoftmax | AdaptiveSoftmax | None:
    """`kind`: "adaptive", "full", or "none" for a model whose softmax is not known."""
    if kind == "none":
        return None
    if kind == "full":
        return FullSoftmax(width, vocabulary_size)
    if kind == "adaptive":
        return AdaptiveSoftmax(width, vocabulary_size, cutoffs)
    raise ValueError(f"{kind!r} is no kind of softmax")
