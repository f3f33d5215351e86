"""The process, not the problem: command line, seed, device, precision, torchrun, where files go, who ran what.

Knows no word of NLP. torch is imported where it is used, so that `--help` and a mistyped option answer at once.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bilm.config import setting
from bilm.errors import Interrupted, UserError

ROOT = Path(__file__).resolve().parent


# --- the command line -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunOptions:
    """Where the data is, where results go, and what to compute on."""

    data: str | None = setting(None, "folder with train.csv and test.csv (default: AG_NEWS_DIR, else data/ag_news)")
    output: str | None = setting(None, "folder under which models/, results/ and runs/ are written (default: this one)")
    limit: int | None = setting(
        None, "read only this many rows of each file, for a quick look; written beside, not over"
    )
    seed: int = setting(0, "seed of everything random")
    device: str = setting("auto", "auto (CUDA when there is one), cpu, cuda, cuda:1 ...")
    precision: str = setting(
        "auto", "bf16 where the hardware computes in it natively, else fp32", choices=("auto", "bf16", "fp32")
    )


@dataclass(frozen=True)
class ResumeOptions:
    """What to do about an earlier run."""

    resume: bool = setting(
        False, "go on where an earlier run with the same settings stopped; nothing if it had finished"
    )
    restart: bool = setting(False, "drop an unfinished run and start anew")


def parse_options(description: str, *groups: Any, argv: list[str] | None = None) -> list[Any]:
    """Command line -> one instance per group; a group is a dataclass, or an instance whose values are the defaults.

    Every field becomes `--field-name`, with its help text and default.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    instances = [group() if isinstance(group, type) else group for group in groups]
    for instance in instances:
        title = (type(instance).__doc__ or "").strip().splitlines()[0]
        section = parser.add_argument_group(title)
        for item in dataclasses.fields(instance):
            default = getattr(instance, item.name)
            text = item.metadata["help"].replace("%", "%%")
            flag = f"--{item.name.replace('_', '-')}"
            if isinstance(default, bool):
                section.add_argument(
                    flag, action=argparse.BooleanOptionalAction if default else "store_true", default=default, help=text
                )
                continue
            kind = item.metadata.get("type") or (type(default) if default is not None else _declared_type(item.type))
            shown = "" if default is None else f" (default: {default})"
            section.add_argument(
                flag,
                type=kind,
                default=default,
                choices=item.metadata.get("choices"),
                metavar=None if item.metadata.get("choices") else kind.__name__.upper(),
                help=text + shown,
            )
    values = vars(parser.parse_args(argv))
    return [
        dataclasses.replace(instance, **{f.name: values[f.name] for f in dataclasses.fields(instance)})
        for instance in instances
    ]


def _declared_type(annotation: Any) -> type:
    """int of `int | None`."""
    return next(t for t in getattr(annotation, "__args__", (annotation,)) if t is not type(None))


def resume_unfinished(checkpoint: Path, options: ResumeOptions) -> bool:
    """Whether to go on from `checkpoint`: as the options say, or as the user answers when it is there.

    Raises UserError when it is there and there is nobody to ask: neither going on nor starting over is a safe guess.
    """
    if not checkpoint.exists():
        return False
    if options.resume and not options.restart:
        return True
    if not options.restart:
        found = f"an unfinished run is in {shown(checkpoint.parent)}"
        if not sys.stdin.isatty():
            raise UserError(f"{found}. Go on with it: --resume. Drop it and start anew: --restart.")
        if (
            not input(f"There is {found}. Go on with it [Enter], or drop it and start anew [n]? ")
            .strip()
            .lower()
            .startswith("n")
        ):
            return True
    checkpoint.unlink()
    return False


def run_script(main: Callable[[], None]) -> None:
    """Run `main`; a user's mistake is one line and exit status 2, never a traceback."""
    name = Path(sys.argv[0]).name
    try:
        main()
    except UserError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as stop:
        print(f"\n{name}: stopped in {stop}; saved. Go on with: python {name} ... --resume", file=sys.stderr)
        sys.exit(128 + stop.signal_number)
    except KeyboardInterrupt:
        print(f"\n{name}: stopped.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of our output has gone, as in `python evaluate.py | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


# --- where files go ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folders:
    """models: weights; results: small JSON and figures; runs: checkpoints and logs of unfinished runs."""

    models: Path
    results: Path
    runs: Path


def folders(output: str | None, corpus: str, limit: int | None) -> Folders:
    """A full run on AG News writes to models/ and results/; every other kind writes to a folder of its own in them."""
    root = Path(output) if output else ROOT
    parts = [] if corpus == "ag_news" else [corpus]
    if limit is not None:
        parts.append(f"limit-{limit}")
    beside = "-".join(parts)
    return Folders(root / "models" / beside, root / "results" / beside, root / "runs" / (beside or "full"))


def shown(path: Path) -> str:
    """`path` as a user would type it from here."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all, with a newline at the end."""
    from bilm.checkpoint import written_whole

    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# --- what it runs on --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runtime:
    """device: torch.device; precision: "bf16" or "fp32"; is_main: whether this process speaks and writes."""

    device: Any
    precision: str
    is_main: bool

    def autocast(self) -> contextlib.AbstractContextManager:
        import torch

        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")


def start(options: RunOptions) -> Runtime:
    """Choose device and precision, join the other ranks under torchrun, seed."""
    import torch

    keep_freed_memory()
    distributed = int(os.environ.get("WORLD_SIZE", "1")) > 1
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    name = options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(f"cuda:{local_rank}" if name == "cuda" and distributed else name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {options.device}: {str(error).splitlines()[0]}") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    rank = 0
    if distributed:
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        rank = torch.distributed.get_rank()
    # Ranks draw different dropout masks, but build the same weights: those come from rank 0.
    torch.manual_seed(options.seed + 1_000_003 * rank)
    precision = options.precision
    if precision == "auto":
        precision = "bf16" if _computes_bf16(device) else "fp32"
    return Runtime(device, precision, rank == 0)


def _computes_bf16(device: Any) -> bool:
    """Native bf16 arithmetic: CUDA of compute capability 8 or above; a CPU with avx512_bf16 or amx."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def keep_freed_memory() -> None:
    """Have glibc keep large blocks that were freed instead of handing them back to the kernel.

    A training step frees and takes the same few hundred MB again; faulting those pages in anew costs a third of the
    step on a CPU. mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, max); nothing where there is no glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        import ctypes

        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)
        libc.mallopt(-1, 2**31 - 1)


# --- who ran what -----------------------------------------------------------------------------------------------------


def hardware(device: Any) -> str:
    """For instance "AMD EPYC, 2 cores" or "NVIDIA H200"."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"{model}, {torch.get_num_threads()} cores"


def run_settings(options: RunOptions, runtime: Runtime, *groups: Any, **inputs: str) -> dict[str, Any]:
    """All that shapes the weights of a run: two runs that agree in it are one and the same, stopped or not.

    `inputs`: hashes of what the run reads.
    """
    settings: dict[str, Any] = {"seed": options.seed, "limit": options.limit, "precision": runtime.precision, **inputs}
    for group in groups:
        settings.update(dataclasses.asdict(group))
    del settings["checkpoint_seconds"]
    return settings


def run_stamp(options: RunOptions, runtime: Runtime) -> dict[str, Any]:
    """What a number needs to be believed: seed, command, commit, hardware, versions, peak memory, date."""
    import torch

    return {
        "seed": options.seed,
        "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "hardware": hardware(runtime.device),
        "precision": runtime.precision,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _commit() -> str:
    """The commit this code is at, with "+" when it was changed since; "unknown" outside a git checkout."""
    try:
        git = ["git", "-C", str(ROOT)]
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "*.py"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
