"""Start a run: choose device, precision and threads, join the other ranks, decide what to do about an earlier run.

torch is imported where it is used, so that `--help` and a mistyped option answer at once.
"""

import contextlib
import datetime
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bilm.cli.options import ResumeOptions, RunOptions
from bilm.runtime.errors import UserError
from bilm.runtime.paths import display_path
from bilm.runtime.process import allow_interrupts
from bilm.runtime.provenance import first_difference

# --- what it runs on -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runtime:
    """device: torch.device; precision: "bf16" or "fp32"; rank of processes: this process among those of torchrun."""

    device: Any
    precision: str
    rank: int = 0
    processes: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process speaks and writes."""
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager:
        import torch

        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def seed(self, seed: int) -> None:
        """Ranks draw different dropout masks, but build the same weights: those come from rank 0."""
        import torch

        torch.manual_seed(seed + 1_000_003 * self.rank)

    def on_each_machine(self, function: Callable[[], None]) -> None:
        """See Ranks.on_each_machine."""
        from bilm.runtime.distributed import Ranks

        Ranks().on_each_machine(function)

    def on_main(self, function: Callable[[], Any]) -> Any:
        """See Ranks.on_main."""
        from bilm.runtime.distributed import Ranks

        return Ranks().on_main(function)


def start(options: RunOptions) -> Runtime:
    """Choose device, precision and threads, join the other ranks under torchrun, seed."""
    # cuBLAS gives the same bits twice only with a workspace of fixed size, set before CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from bilm.runtime import threads
    from bilm.runtime.device import find_device, find_precision, keep_freed_memory

    keep_freed_memory()
    thread_count = threads.start(options.threads)
    processes, local_rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    name = options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local_rank >= torch.cuda.device_count() > 0:
        raise UserError(f"{torch.cuda.device_count()} GPUs are here; lower --nproc_per_node, or --device cpu.")
    device = find_device(f"cuda:{local_rank}" if name == "cuda" and processes > 1 else name)
    precision = find_precision(options.precision, device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.deterministic = True
        # fp32 that was asked for is fp32; beside bf16, TF32 is exact enough.
        torch.set_float32_matmul_precision("high" if precision == "bf16" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "bf16"
    if thread_count is not None:
        thread_count.choose()
    rank = 0
    if processes > 1:
        # All wait while one process of each machine reads the texts: a quarter of an hour for a billion words.
        patience = datetime.timedelta(hours=2)
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=patience)
        rank = torch.distributed.get_rank()
    runtime = Runtime(device, precision, rank, processes)
    allow_interrupts()
    runtime.seed(options.seed)
    return runtime


def start_answering(options: Any) -> Any:
    """For scripts that use a model and train none: the device, once all that they need is imported.

    `options` has the fields `device` and `threads`.
    """
    from bilm.runtime import threads
    from bilm.runtime.device import find_device

    threads.start(options.threads)
    found = find_device(options.device)
    allow_interrupts()
    return found


# --- earlier runs ----------------------------------------------------------------------------------------------------


def decide_action(
    unfinished: Path,
    options: ResumeOptions,
    *,
    is_finished: Callable[[], bool],
    replaces: Callable[[], str | None] = lambda: None,
) -> str:
    """ "start", "resume" or "skip" a run: as the options say, or as the user answers at a terminal.

    unfinished: the checkpoint of an earlier run; dropping it is left to the caller, once nothing can stop the new run
    any more. is_finished: whether what this very run would make is there. replaces: a sentence that says which other
    finished run would be replaced, None where there is none.

    Raises UserError when there is nobody to ask: neither going on nor starting over is a safe guess.
    """
    if unfinished.exists():
        return _about_unfinished(unfinished, options)
    if is_finished():
        return "skip" if options.resume else "start"
    if not options.restart and (loss := replaces()):
        answer = _ask(f"{loss} Replace it [r], or leave everything as it is [Enter]? ")
        if answer is None or not answer.startswith("r"):
            raise UserError(loss)
    return "start"


def _about_unfinished(unfinished: Path, options: ResumeOptions) -> str:
    if options.resume or options.restart:
        return "resume" if options.resume else "start"
    found = f"an unfinished run is in {display_path(unfinished.parent)}"
    answer = _ask(f"There is {found}. Go on with it [Enter], or drop it and start anew [n]? ")
    if answer is None:
        raise UserError(f"{found}. Go on with it: --resume. Drop it and start anew: --restart.")
    return "start" if answer.startswith("n") else "resume"


def _ask(question: str) -> str | None:
    """The answer in lower case; None where nobody can be asked."""
    if not sys.stdin.isatty() or "RANK" in os.environ:
        return None
    try:
        return input(question).strip().lower()
    except EOFError:
        return None


def replacement_warning(
    weights: Path, saved: dict[str, Any], settings: dict[str, Any], *, further: str = ""
) -> str | None:
    """For decide_action: what is said before the finished run in `weights` is replaced by one with other settings.

    saved: its settings; further: how to train on from it, where that can be done. None where the settings are the same.
    """
    key = first_difference(saved, settings)
    if key is None:
        return None
    difference = f"{key}: {saved.get(key)}, now {settings.get(key)}"
    if key == "corpus":
        difference = "it was trained on other rows"
    return (
        f"{display_path(weights)} is the outcome of a finished run with other settings ({difference}). "
        f"Replace it: --restart. {further}Keep it and write elsewhere: --output FOLDER."
    )
