"""Set up the process of a command: device, precision, threads, and the ranks of torchrun.

torch is imported inside functions, so that `--help` and a mistyped option answer at once.
"""

import contextlib
import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from bilm.cli.options import ModelOptions, RunOptions
from bilm.runtime.errors import UserError
from bilm.runtime.process import allow_interrupts, at_end

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Runtime:
    """Device, precision and rank of a command.

    precision: "bf16" or "fp32"; rank: the number of this process among the `processes` of torchrun.
    """

    device: "torch.device"
    precision: str
    rank: int = 0
    processes: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager:
        from bilm.runtime.device import autocast

        return autocast(self.device, self.precision)

    def seed(self, seed: int) -> None:
        """Seed this rank: ranks draw different dropout masks, but start from the same weights, those of rank 0."""
        import torch

        torch.manual_seed(seed + 1_000_003 * self.rank)

    def print(self, text: str) -> None:
        """Print on rank 0 only."""
        if self.is_main:
            print(text, flush=True)

    def on_each_machine(self, function: Callable[[], None]) -> None:
        """See Ranks.on_each_machine."""
        from bilm.runtime.distributed import Ranks

        Ranks().on_each_machine(function)

    def on_main(self, function: Callable[[], T]) -> T:
        """See Ranks.on_main."""
        from bilm.runtime.distributed import Ranks

        return Ranks().on_main(function)


def start(options: RunOptions) -> Runtime:
    """Choose device, precision and threads, join the other ranks under torchrun, seed."""
    # cuBLAS computes the same bits twice only with a workspace of fixed size, set before CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from bilm.runtime import threads
    from bilm.runtime.device import find_device, find_precision, keep_freed_memory, set_tf32

    keep_freed_memory()
    thread_count = threads.start(options.threads)
    processes, local_rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    name = options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local_rank >= torch.cuda.device_count() > 0:
        raise UserError(f"there are {torch.cuda.device_count()} GPUs; lower --nproc_per_node, or use --device cpu.")
    if processes > 1 and name.startswith("cuda:"):
        raise UserError(f"{name} would be used by each of the {processes} processes; name cuda.", "device")
    device = find_device(f"cuda:{local_rank}" if name == "cuda" and processes > 1 else name)
    precision = find_precision(options.precision, device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.deterministic = True
        at_end(set_tf32(precision == "bf16"))  # in a run with bf16, TF32 is precise enough for the rest
    if thread_count is not None:
        thread_count.choose()
    rank = 0
    if processes > 1:
        # All ranks wait while one process of each machine reads the texts: 15 minutes for a billion words.
        timeout = datetime.timedelta(hours=2)
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
        rank = torch.distributed.get_rank()
    runtime = Runtime(device, precision, rank, processes)
    allow_interrupts()
    runtime.seed(options.seed)
    return runtime


def start_inference(options: ModelOptions) -> "torch.device":
    """The device of a command that uses a model without training it; call it after all imports."""
    from bilm.runtime import threads
    from bilm.runtime.device import find_device

    threads.start(options.threads)
    device = find_device(options.device)
    allow_interrupts()
    return device
