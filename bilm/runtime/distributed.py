"""The processes that train one model together under torchrun."""

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from bilm.runtime.errors import OtherRankError, UserError


class Ranks:
    """Communication between the processes that train together; a process without torchrun is the only rank."""

    def __init__(self) -> None:
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.size = dist.get_world_size() if dist.is_initialized() else 1
        # torchrun numbers the processes of each machine.
        self.is_first_here = self.size == 1 or os.environ.get("LOCAL_RANK", "0") == "0"

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, *values: float) -> list[Any]:
        """Return each value summed over all ranks."""
        if self.size == 1:
            return list(values)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor)
        return [type(v)(t) for v, t in zip(values, tensor.tolist(), strict=True)]

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, on every rank."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def on_each_machine(self, function: Callable[[], None]) -> None:
        """Call `function` in one process of each machine while the others wait; its error is raised on all ranks."""
        self._run(function, self.is_first_here)

    def on_main(self, function: Callable[[], Any]) -> Any:
        """Call `function` on rank 0; return its result, or raise its error, on all ranks."""
        return self._run(function, self.is_main)[0]

    def _run(self, function: Callable[[], Any], is_caller: bool) -> list[Any]:
        """Call `function` on some ranks; return all ranks' results (None for the others), or raise the first error.

        Only errors that a user is told of, UserError and OSError among them, are passed on to the other ranks.
        """
        if self.size == 1:
            return [function()]
        result, failure = None, None
        if is_caller:
            try:
                result = function()
            except (UserError, OSError, EOFError) as error:
                failure = (str(error), getattr(error, "parameters", ()))
        outcomes = self.gather((result, failure))
        for _, failed in outcomes:
            if failed is not None:
                message, parameters = failed
                raise OtherRankError(message, *parameters)
        return [outcome for outcome, _ in outcomes]
