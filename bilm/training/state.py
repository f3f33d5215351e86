"""State: how far a training run is and what it measured; Tally: the sums of an epoch, seldom read from the device."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bilm.runtime.distributed import Ranks


@dataclass
class State:
    """Training state, saved in every checkpoint.

    The names of the fields are keys of checkpoints, therefore `left_out` for steps that were skipped.
    """

    epoch: int = 0
    batch: int = 0  # batches done in this epoch
    step: int = 0  # batches done in the whole run
    loss_sum: float = 0.0  # of this epoch so far
    loss_count: int = 0
    largest_norm: float = 0.0  # of the gradients of this epoch
    left_out: int = 0  # skipped steps of this epoch: those without a finite gradient
    left_out_in_a_row: int = 0  # consecutive skipped steps up to the last step
    longest_row: int = 0  # the most consecutive skipped steps in the whole run
    seconds: float = 0.0  # of training, over all sessions
    best_epoch: int = -1
    best_figure: float = math.nan
    epochs: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, float | None]] = field(default_factory=list)


class Tally:
    """Loss and gradient norms of the steps of an epoch; only `read_into` makes the CPU wait for a GPU.

    Summed step by step in Python's floats (fp64, which some devices lack), so that a run in one process that was
    interrupted and resumed gets the same sums.
    """

    def __init__(self, state: State, is_main: bool):
        # Each rank sums its own losses; all else is the same on all ranks.
        self.loss_sum = state.loss_sum if is_main else 0.0
        self.last_norm = math.nan
        self._unread: list[tuple[Tensor, int]] = []

    def add(self, loss_sum: Tensor, count: int, norm: Tensor) -> Tensor:
        """Add a step with this loss and gradient norm; returns whether the norm is finite, bool ()."""
        self._unread.append((torch.stack([loss_sum.float(), norm.float()]), count))
        return norm.isfinite()

    def read_into(self, state: State, ranks: Ranks) -> None:
        """Update `state` with the steps since the last call."""
        steps = torch.stack([step for step, _ in self._unread]).tolist() if self._unread else []
        for (loss_sum, norm), (_, count) in zip(steps, self._unread, strict=True):
            if math.isfinite(norm):
                self.loss_sum += loss_sum
                state.loss_count += count
                state.largest_norm = max(state.largest_norm, norm)
                state.left_out_in_a_row = 0
            else:
                state.left_out += 1
                state.left_out_in_a_row += 1
                state.longest_row = max(state.longest_row, state.left_out_in_a_row)
            self.last_norm = norm
        self._unread.clear()
        (state.loss_sum,) = ranks.sum(self.loss_sum)
