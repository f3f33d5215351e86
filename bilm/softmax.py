"""The output layers of the language model: states (N, D) -> losses, log-probabilities, likeliest words.

Both classes share one interface, and everything they return is fp32 whatever the autocast:
    loss(states (N, D), targets (N,)) -> ()         sum of -log p(target), with a gradient: for training
    nll(states (N, D), targets (N,))  -> (N,)       -log p(target)
    log_probs(states (N, D))          -> (N, V)     the whole distribution
    topk(states (N, D), k)            -> (N, k)     ids of the k likeliest words, likeliest first
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bilm.linear_cross_entropy import ROWS, linear_cross_entropy

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
