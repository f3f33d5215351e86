"""The processes that train one model together."""

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from bilm.runtime.errors import UserError


class Ranks:
    """The processes that train together under torchrun; one alone otherwise."""

    def __init__(self) -> None:
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.size = dist.get_world_size() if dist.is_initialized() else 1
        # torchrun numbers the processes of each machine.
        self.is_first_here = self.size == 1 or os.environ.get("LOCAL_RANK", "0") == "0"

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, *values: float) -> list[Any]:
        """Each value summed over all ranks."""
        if self.size == 1:
            return list(values)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor)
        return [type(v)(t) for v, t in zip(values, tensor.tolist(), strict=True)]

    def gather(self, value: Any) -> list[Any]:
        """One value per rank, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def on_each_machine(self, function: Callable[[], None]) -> None:
        """Call `function` in one process of each machine while the others wait; the failure of one is that of all."""
        failure = None
        if self.is_first_here:
            try:
                function()
            except (UserError, OSError) as error:
                if self.size == 1:
                    raise
                failure = (str(error), getattr(error, "parameters", ()))
        if failures := [one for one in self.gather(failure) if one is not None]:
            message, parameters = failures[0]
            raise UserError(message, *parameters)

    def on_main(self, function: Callable[[], Any]) -> Any:
        """What `function` returns on rank 0, on every rank; the failure that a user is told of, too."""
        if self.size == 1:
            return function()
        told: list[Any] = [None, None]
        if self.is_main:
            try:
                told[0] = function()
            except (UserError, OSError, EOFError) as error:
                told[1] = (str(error), getattr(error, "parameters", ()))
        dist.broadcast_object_list(told)
        if told[1] is not None:
            raise UserError(told[1][0], *told[1][1])
        return told[0]
