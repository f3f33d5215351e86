"""The process, not the problem: options every script has, device, precision, torchrun, earlier runs, who ran what.

Knows no word of NLP. torch is imported where it is used, so that `--help` and a mistyped option answer at once.
"""

import atexit
import contextlib
import dataclasses
import datetime
import functools
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

from bilm import signals
from bilm.config import setting
from bilm.errors import Interrupted, UserError
from bilm.folders import shown

ROOT = Path(__file__).resolve().parent


# --- options and exit status -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunOptions:
    """Where the data is, where results go, and what to compute on."""

    data: str | None = setting(
        None, "folder with train.csv and test.csv of AG News (default: AG_NEWS_DIR, else data/ag_news)"
    )
    train: str | None = setting(
        None, "instead of --data: your own texts to train on; .csv, .tsv, .jsonl or .parquet, or a text a line"
    )
    test: str | None = setting(None, "with --train: your own texts to test on")
    text_column: str | None = setting(None, "with --train: column of the texts; its name, or number from 1")
    label_column: str | None = setting(None, "with --train: column of the classes, of any names and number")
    output: str | None = setting(None, "folder under which models/, results/ and runs/ are written (default: this one)")
    limit: int | None = setting(
        None, "read only this many rows of each file, for a quick look; written beside, not over", at_least=1
    )
    seed: int = setting(0, "seed of everything random", below=2**62)
    device: str = setting("auto", "auto (CUDA when there is one), cpu, cuda, cuda:1 ...")
    precision: str = setting(
        "auto", "bf16 where the hardware computes in it natively, else fp32", choices=("auto", "bf16", "fp32")
    )

    def __post_init__(self) -> None:
        if self.train and self.data:
            raise UserError("--train and --data exclude each other.")
        for name in ("test", "text_column", "label_column"):
            if getattr(self, name) and not self.train:
                raise UserError(f"--{name.replace('_', '-')} is for --train.")

    def corpus(self) -> Any:
        """The corpus.Corpus that the options name. Raises UserError when it is not there."""
        from bilm.corpus import find_corpus, own_corpus

        if self.train:
            return own_corpus(self.train, self.test, self.text_column, self.label_column)
        return find_corpus(self.data)

    def data_options(self) -> str:
        """Those of the options that name the data, to be put behind the next command."""
        names = ("data", "train", "test", "text_column", "label_column", "limit", "output")
        given = [(name, getattr(self, name)) for name in names if getattr(self, name) is not None]
        return "".join(f" --{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in given)


@dataclass(frozen=True)
class EncoderOptions:
    """The language model that classifiers stand on."""

    bilm: str | None = setting(
        None, "its file (default: the bilstm.pt that ELMO.py wrote with the same options); needs an --output of its own"
    )

    def file(self, run: RunOptions, usual: Path) -> Path:
        """Raises UserError where classifiers and figures of another language model would replace the usual one's."""
        if self.bilm and not run.output:
            raise UserError("--bilm needs --output: what stands on that file would replace what stands on bilstm.pt.")
        return Path(self.bilm) if self.bilm else usual


@dataclass(frozen=True)
class ResumeOptions:
    """What to do about an earlier run."""

    resume: bool = setting(
        False, "go on where an earlier run with the same settings stopped; nothing if it had finished"
    )
    restart: bool = setting(False, "drop an unfinished run and start anew")

    def __post_init__(self) -> None:
        if self.resume and self.restart:
            raise UserError("--resume and --restart exclude each other.")


def run_script(main: Callable[[], None]) -> None:
    """Run `main`; a user's mistake is one line and exit status 2, never a traceback. Under torchrun, rank 0 speaks."""
    name = Path(sys.argv[0]).name

    def say(text: str) -> None:
        if os.environ.get("RANK", "0") == "0":
            with contextlib.suppress(OSError):  # nobody may be there any more to be told
                print(text, file=sys.stderr)

    signals.hold_back()
    status = 0
    try:
        main()
        sys.stdout.flush()  # what cannot be written is told below
    except UserError as error:
        say(f"{name}: error: {error}")
        status = 2
    except BrokenPipeError:  # the reader of our output has gone, as in `python evaluate.py | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    except OSError as error:
        say(f"{name}: error: {error.filename or 'a file or standard output'}: {error.strerror or error}")
        status = 2
    except Interrupted as stop:
        say(f"\n{name}: stopped in {stop}; saved. Go on with: python {name} ... --resume")
        status = 128 + stop.signal_number
    except (Exception, KeyboardInterrupt) as error:
        # What fails after a signal fails because of it.
        if number := signals.received() or (signal.SIGINT if isinstance(error, KeyboardInterrupt) else None):
            say(f"\n{name}: stopped.")
            status = 128 + number
        elif _memory_ran_out(error):
            say(f"{name}: error: memory ran out. Lower --batch-tokens, --width or --hidden, where there are.")
            status = 2
        else:
            raise
    if "torch" in sys.modules:
        import torch.distributed as dist

        if dist.is_initialized():
            if status == 0:
                dist.barrier()  # a rank that leaves while another still works can abort at exit
            dist.destroy_process_group()
    signals.ignore()
    _exit_status.append(status)
    sys.exit(status)


_exit_status: list[int] = []


def _leave_at_once() -> None:
    """Skip the end of torch's threads, where ranks that had done all their work now and then aborted under load."""
    if _exit_status:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(_exit_status[0])


def _memory_ran_out(error: BaseException) -> bool:
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
    )


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
        from bilm.ranks import Ranks

        Ranks().on_each_machine(function)

    def on_main(self, function: Callable[[], Any]) -> Any:
        """See Ranks.on_main."""
        from bilm.ranks import Ranks

        return Ranks().on_main(function)


def start(options: RunOptions) -> Runtime:
    """Choose device and precision, join the other ranks under torchrun, seed."""
    # cuBLAS gives the same bits twice only with a workspace of fixed size, set before CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    keep_freed_memory()
    processes, local_rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    name = options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local_rank >= torch.cuda.device_count() > 0:
        raise UserError(f"{torch.cuda.device_count()} GPUs are here; lower --nproc_per_node, or --device cpu.")
    device = device_named(f"cuda:{local_rank}" if name == "cuda" and processes > 1 else name)
    precision = options.precision
    if precision == "auto":
        precision = "bf16" if _computes_bf16(device) else "fp32"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.deterministic = True
        # fp32 that was asked for is fp32; beside bf16, TF32 is exact enough.
        torch.set_float32_matmul_precision("high" if precision == "bf16" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "bf16"
    rank = 0
    if processes > 1:
        atexit.register(_leave_at_once)  # before all else that is registered here, hence called after it
        # All wait while one process of each machine reads the texts: a quarter of an hour for a billion words.
        patience = datetime.timedelta(hours=2)
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=patience)
        rank = torch.distributed.get_rank()
    runtime = Runtime(device, precision, rank, processes)
    signals.let_through()
    runtime.seed(options.seed)
    return runtime


def device_named(name: str) -> Any:
    """A torch.device that is there; "auto" is CUDA when there is one. Raises UserError."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        return device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from error


def start_answering(device: str) -> Any:
    """For scripts that use a model and train none: the device, once all that they need is imported."""
    found = device_named(device)
    signals.let_through()
    return found


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

    A training step frees and takes the same few hundred MB again; faulting those pages in anew cost 30 % of the speed
    on a CPU with batches of 4,096 tokens, 5 % with 2,048. mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, max);
    nothing where there is no glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        import ctypes

        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)
        libc.mallopt(-1, 2**31 - 1)


# --- earlier runs ----------------------------------------------------------------------------------------------------


def what_to_do(unfinished: Path, finished: Callable[[], bool], options: ResumeOptions) -> str:
    """ "start", "resume" or "skip" a run: as the options say, or as the user answers when an `unfinished` one is there.

    That one is the caller's to drop, once nothing stands in the way of a new one.

    `finished`: whether what the run would make is there already. Raises UserError when there is nobody to ask: neither
    going on nor starting over is a safe guess.
    """
    if not unfinished.exists():
        return "skip" if options.resume and finished() else "start"
    if options.resume:
        return "resume"
    if not options.restart:
        found = f"an unfinished run is in {shown(unfinished.parent)}"
        if not sys.stdin.isatty() or "RANK" in os.environ:
            raise UserError(f"{found}. Go on with it: --resume. Drop it and start anew: --restart.")
        try:
            answer = input(f"There is {found}. Go on with it [Enter], or drop it and start anew [n]? ")
        except EOFError:
            raise UserError(f"{found}. Go on with it: --resume. Drop it and start anew: --restart.") from None
        if not answer.strip().lower().startswith("n"):
            return "resume"
    return "start"


# --- who ran what ----------------------------------------------------------------------------------------------------


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
    """What a number needs to be believed: seed, command, commit, hardware, versions, date; peak memory (the GPU's)."""
    import torch

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if runtime.device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(runtime.device)
    return {
        "seed": options.seed,
        "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "hardware": hardware(runtime.device),
        "precision": runtime.precision,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "processes": runtime.processes,
        "peak_memory_mb": round(memory / 2**20),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _commit() -> str:
    """The commit this code is at, with "+" when it was changed since; "unknown" outside a git checkout."""
    try:
        run = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=True)
        head = run(["git", "rev-parse", "--short=12", "HEAD"])
        changed = run(["git", "status", "--porcelain", "--", "*.py"])
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
