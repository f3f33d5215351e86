"""Decide, before a training run starts, whether its number of threads may change; see runtime/threads.py."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from bilm.runtime import threads

# A run of fewer batches takes a minute or two, of the default language model on a CPU without bf16 four at most.
_SHORT = 500


def settle_threads(
    model: nn.Module, task: Any, autocast: Callable[[], AbstractContextManager[object]], epochs: int
) -> int | None:
    """Fix the number of threads unless 1 and 2 threads give the same gradients on three batches of the first epoch.

    task: a loop.Task. Returns the number if it is fixed, else None.
    """
    plan, random_state = task.plan(0), torch.get_rng_state()
    items = [plan[i] for i in sorted({0, len(plan) // 2, len(plan) - 1})]
    parameters = [p for p in model.parameters() if p.requires_grad]

    def gradients(item: Any, number: int) -> tuple[Tensor, ...]:
        torch.set_num_threads(number)
        torch.set_rng_state(random_state)
        with autocast():
            loss, _, _ = task.loss(model.train(), item, 0, 1)
        return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)

    def have_same_gradients(one: int, other: int) -> bool:
        number = torch.get_num_threads()
        pairs = ((a, b) for item in items for a, b in zip(gradients(item, one), gradients(item, other), strict=True))
        same = all(torch.equal(a, b) for a, b in pairs)
        torch.set_num_threads(number)
        return same

    number = threads.settle_for_training(have_same_gradients, len(plan) * epochs < _SHORT)
    torch.set_rng_state(random_state)
    return number
