"""AdamW, with Adagrad for embedding tables; gradient clipping; and the learning rate over a run."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Adagrad's learning rate for embedding tables, relative to AdamW's for the other weights; docs/log.md.
TABLE_RATE = 40.0
_EPSILON = 1e-10


def schedule(done: float, warmup: float) -> float:
    """Factor on the learning rate after the fraction `done` of the run: a linear rise, then a cosine down to 0."""
    if done < warmup:
        return done / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (done - warmup) / (1.0 - warmup)))


class Optimizer(torch.optim.AdamW):
    """AdamW, fused; and Adagrad (Duchi et al. 2011) for the groups with "table": True.

    A batch has a few hundred of the words of a vocabulary. Adagrad leaves the other rows of their table as they are, so
    that with a sparse gradient the cost of a step does not depend on the size of the vocabulary. AdamW would have to
    read and write all of them: its moments decay in every step.
    """

    found_inf: Tensor | None = None  # 1.0 for a step that changes nothing

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            # Groups from a checkpoint of an earlier version do not have the key.
            for table in group["params"] if group.get("table") else ():
                if table.grad is not None:
                    _adagrad(table, self.state[table], group["lr"], self.found_inf)
                    table.grad = None  # AdamW ignores parameters without a gradient
        super().step()


def _adagrad(table: Tensor, state: dict[str, Any], rate: float, found_inf: Tensor | None) -> None:
    """A step of Adagrad on the rows of `table` (V, D) that have a gradient; none where `found_inf` is 1."""
    if not state:
        # AdamW requires a step count of every parameter when a state is loaded.
        state |= {"step": torch.zeros(()), "sum": torch.zeros_like(table)}
    rows: Any = slice(None)
    assert table.grad is not None
    gradient = table.grad
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        rows, gradient = gradient.indices()[0], gradient.values()
    if found_inf is not None:
        gradient = torch.where(found_inf.bool(), 0.0, gradient)
    total = state["sum"][rows] + gradient.square()
    state["sum"][rows] = total
    table[rows] -= rate * gradient / (total.sqrt() + _EPSILON)


def build_optimizer(
    groups: Sequence[tuple[nn.Module, float]], weight_decay: float, tables: Sequence[nn.Embedding] = ()
) -> Optimizer:
    """The optimizer of the trainable parameters of each (module, learning rate); only matrices decay.

    Where a later module is a part of an earlier one, its parameters get the later module's rate. tables: parts that
    Adagrad trains, at TABLE_RATE times their rate and without decay; on a CPU their gradients become sparse.
    """
    parameters = []
    group_of = {p: i for i, (module, _) in enumerate(groups) for p in module.parameters()}
    weights = {table.weight for table in tables}
    for table in tables:
        # NCCL cannot add up sparse gradients, and a GPU updates a whole table in no time.
        table.sparse = table.weight.device.type == "cpu"
    for i, (_, learning_rate) in enumerate(groups):
        trainable = [p for p, group in group_of.items() if group == i and p.requires_grad]
        matrices = [p for p in trainable if p.dim() > 1 and p not in weights]
        others = [p for p in trainable if p.dim() <= 1]
        of_tables = [p for p in trainable if p in weights]
        for members, rate, decay, is_table in (
            (matrices, learning_rate, weight_decay, False),
            (others, learning_rate, 0.0, False),
            (of_tables, TABLE_RATE * learning_rate, 0.0, True),
        ):
            if members:
                parameters.append(
                    {"params": members, "lr": rate, "peak": rate, "weight_decay": decay, "table": is_table}
                )
    return Optimizer(parameters, fused=True)


def clip_gradients(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scale all gradients down so that their total norm is at most `limit`; return the norm before, fp32 ()."""
    gradients = []
    for p in parameters:
        if p.grad is not None and p.grad.is_sparse:
            p.grad = p.grad.coalesce()  # one entry for each row: their norm is that of the dense gradient
        if p.grad is not None:
            gradients.append(p.grad.values() if p.grad.is_sparse else p.grad)
    norm = nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm
