"""A command from its start to its exit status: signals, a user's mistakes, and clean-up.

It works the same in a separate process, under IPython's %run and under runpy: when a command has ended, the signal
handlers are restored, and all functions registered with `at_end` have been called.
"""

import _thread
import atexit
import contextlib
import errno
import gc
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from bilm.runtime.errors import Interrupted, OtherRankError, UserError

# Ctrl-C, `kill`, a closed terminal; SIGBREAK is that of a closed window on Windows. No system has all of them.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
# The status that a shell reports for a program whose output is no longer read; Windows has no such signal.
_BROKEN_PIPE_STATUS = 128 + getattr(signal, "SIGPIPE", 13)


class _Command:
    """The state of the running command.

    received: numbers of the signals received; interruptible: whether a signal raises KeyboardInterrupt; cleanup: the
    functions to call at the end.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self.interruptible = False
        self.cleanup = contextlib.ExitStack()

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal. The second one ends the process at once."""
        if self.received:
            os._exit(128 + number)
        self.received.append(number)
        if self.interruptible:
            raise KeyboardInterrupt(number)

    def repeat(self, unraisable: Any) -> None:
        """For sys.unraisablehook: repeat a signal whose KeyboardInterrupt was lost in a destructor or a callback."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt) and self.received:
            # From another thread and a moment later: within this call it would be lost again.
            threading.Timer(0.01, _thread.interrupt_main, [self.received.pop()]).start()
        else:
            sys.__unraisablehook__(unraisable)


_current: _Command | None = None


def _install(handler: Any) -> None:
    """Install a handler for all stop signals but those already ignored (nohup, a background job)."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            with contextlib.suppress(ValueError):  # only the main thread may install handlers
                signal.signal(number, handler)


@contextlib.contextmanager
def _handled_by(handler: Any) -> Iterator[None]:
    """Install a handler within this context; restore the handlers of all stop signals at its end."""
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    _install(handler)
    try:
        yield
    finally:
        for number, handler in previous.items():
            with contextlib.suppress(ValueError, TypeError):  # another thread; a handler not installed by Python
                signal.signal(number, handler)


def allow_interrupts() -> None:
    """Let signals raise KeyboardInterrupt from now on, and at once for a signal already received.

    Called after all imports: an interrupted import can leave an incomplete module behind.
    """
    if _current is not None:
        _current.interruptible = True
        if _current.received:
            raise KeyboardInterrupt(_current.received[0])


@contextlib.contextmanager
def defer_signals() -> Iterator[list[int]]:
    """Within this context, append signals to the list yielded; a second one raises KeyboardInterrupt(number)."""
    received: list[int] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt(number)

    with _handled_by(receive):
        yield received


def at_end(callback: Callable[[], None]) -> None:
    """Call `callback` when the running command ends, with or without an error; the last one registered comes first.

    Without a running command it is called when Python ends.
    """
    (_current.cleanup.callback if _current else atexit.register)(callback)


def command_line() -> str:
    """Return how the script was called, without arguments: "python ELMO.py", "python -m studies.baselines", "bilm"."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    path = Path(sys.argv[0])
    return "bilm" if path.stem == "bilm" else f"python {path.name}"


def quoted(argument: str) -> str:
    """An argument as the shells of this system take it: single quotes are no quotes to Windows' cmd."""
    return subprocess.list2cmdline([argument]) if os.name == "nt" else shlex.quote(argument)


def run_script(main: Callable[[], None], name: str | None = None) -> None:
    """Run `main` and exit with its status: 0, 2 after a user's mistake (one line on stderr), 128 + a signal's number.

    Returns after status 0, so that a notebook continues. Under torchrun, rank 0 prints the messages, and the
    others print their own errors after their rank.
    """
    global _current
    outer, command = _current, _Command()
    _current = command
    with _handled_by(command.receive):
        command.cleanup.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = command.repeat
        _replace_absent(command)
        _replace_unencodable(command)
        try:
            status = _status_of(main, command, name or command_line().split()[-1])
            _leave_process_group(status)
        finally:
            gc.collect()  # closes memory maps of `main`, whose files Windows would not remove
            command.cleanup.close()
            _current = outer
    if os.environ.get("WORLD_SIZE", "1") != "1":
        _exit_at_once(status)
    if status:
        sys.exit(status)


def _status_of(main: Callable[[], None], command: _Command, name: str) -> int:
    """Run `main`; return the exit status, and print one line on stderr for an error."""
    try:
        try:
            main()
            sys.stdout.flush()  # an error of writing is reported below
        finally:
            _install(signal.SIG_IGN)  # a signal received until here is handled below, a later one is ignored
        return 0
    except UserError as error:
        options = ", ".join(map(_option, error.parameters))
        plural = "s" if len(error.parameters) > 1 else ""
        text = f"{name}: error: {error}" + (f" Option{plural}: {options}" if options else "")
        _print_error(text, isinstance(error, OtherRankError))
    except Interrupted as stop:
        resume, kept = _option("resume"), [word for word in sys.argv[1:] if word not in ("--resume", "--restart")]
        again = " ".join([command_line(), *map(quoted, kept), resume])
        _print_error(f"\n{name}: stopped in {stop}; saved. Continue with: {again}")
        return 128 + stop.signal_number
    except OSError as error:
        closed_on_windows = os.name == "nt" and error.errno == errno.EINVAL and error.filename is None
        if isinstance(error, BrokenPipeError) or closed_on_windows:
            # Nobody reads the output any more, as in `python evaluate.py | head`.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _BROKEN_PIPE_STATUS
        place = error.filename or "a file or standard output"
        _print_error(f"{name}: error: {place}: {error.strerror or error}", of_all_ranks=False)
    except (Exception, KeyboardInterrupt) as error:
        # Any error after a signal is regarded as its consequence.
        if command.received or isinstance(error, KeyboardInterrupt):
            _print_error(f"\n{name}: stopped.")
            return 128 + (command.received or [signal.SIGINT])[0]
        if not _is_out_of_memory(error):
            raise
        _print_error(f"{name}: error: out of memory. Use smaller batches or a smaller model.", of_all_ranks=False)
    return 2


def _option(parameter: str) -> str:
    return f"--{parameter.replace('_', '-')}"


def _print_error(text: str, of_all_ranks: bool = True) -> None:
    """Print an error of this process; under torchrun, one `of_all_ranks` is printed by rank 0 only."""
    rank = os.environ.get("RANK", "0")
    if rank == "0" or not of_all_ranks:
        with contextlib.suppress(OSError):  # stderr may be closed
            print(text if rank == "0" else f"rank {rank}: {text}", file=sys.stderr)


def _replace_absent(command: _Command) -> None:
    """Open the null device in place of standard streams that are missing (`>&-`, Windows' Task Scheduler)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - closed by the clean-up
            command.cleanup.enter_context(stream)
            command.cleanup.callback(setattr, sys, name, None)
            setattr(sys, name, stream)


def _replace_unencodable(command: _Command) -> None:
    """Have stdout and stderr write "?" for characters that the terminal's encoding lacks, until the command ends."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's stream has no encoding
            command.cleanup.callback(stream.reconfigure, errors=stream.errors)
            stream.reconfigure(errors="replace")


def _is_out_of_memory(error: BaseException) -> bool:
    message = str(error).lower()
    # Of CUDA, of PyTorch on Linux and macOS, and of PyTorch on Windows.
    said = ("out of memory", "can't allocate memory", "not enough memory", "status_alloc_failed")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(part in message for part in said))


def _leave_process_group(status: int) -> None:
    if "torch" in sys.modules:
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            if status == 0:
                dist.barrier()  # a rank that exits while another still works can abort
            dist.destroy_process_group()


def _exit_at_once(status: int) -> None:
    """Exit without ending torch's threads, where ranks that had finished their work sometimes aborted under load."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
