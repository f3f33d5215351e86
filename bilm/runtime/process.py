"""A command from its start to its exit status: signals, a user's mistakes, and what has to be undone at the end.

Works the same in a process of its own, under IPython's %run and under runpy: signal handlers are as they were before,
and whatever was registered with `at_end` has been called, when a command is over.
"""

import atexit
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from bilm.runtime.errors import Interrupted, UserError

# Ctrl-C, `kill`, a closed terminal; on Windows, SIGBREAK stands for a closed window. Not every system has all of them.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
# What a shell reports for a program whose reader has gone; Windows has no such signal.
_BROKEN_PIPE_STATUS = 128 + getattr(signal, "SIGPIPE", 13)
_WINDOWS_EINVAL = 22  # how Windows reports the same


class _Command:
    """The command that this process is running, if it is."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.cleanup = contextlib.ExitStack()

    def note(self, number: int, _frame: FrameType | None) -> None:
        if self.received:
            os._exit(128 + number)
        self.received.append(number)

    def interrupt(self, number: int, _frame: FrameType | None) -> None:
        if self.received:
            os._exit(128 + number)
        self.received.append(number)
        raise KeyboardInterrupt(number)


_current: _Command | None = None


def _install(handler: Any) -> None:
    """A signal that was ignored when the command started (nohup, a job in the background) stays ignored."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            with contextlib.suppress(ValueError):  # only the main thread may install handlers
                signal.signal(number, handler)


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in STOP_SIGNALS}


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        with contextlib.suppress(ValueError, TypeError):  # another thread; a handler that was not installed by Python
            signal.signal(number, handler)


def allow_interrupts() -> None:
    """Once all is imported: from now on a signal raises KeyboardInterrupt; one that came earlier does so at once.

    Until then signals are only noted, since an import that is interrupted can leave half a module behind.
    """
    if _current is not None:
        _install(_current.interrupt)
        if _current.received:
            raise KeyboardInterrupt(_current.received[0])


@contextlib.contextmanager
def defer_signals() -> Iterator[list[int]]:
    """Within, a signal is put into the list that this yields; a second one raises KeyboardInterrupt(number)."""
    numbers: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        numbers.append(number)
        if len(numbers) > 1:
            raise KeyboardInterrupt(number)

    previous = _handlers()
    _install(note)
    try:
        yield numbers
    finally:
        _restore(previous)


def at_end(callback: Callable[[], None]) -> None:
    """Call `callback` when the running command is over, however it ends; the last one registered comes first.

    Where no command is running, when Python ends.
    """
    if _current is None:
        atexit.register(callback)
    else:
        _current.cleanup.callback(callback)


def command_line() -> str:
    """How the running script was called, without its arguments: "python ELMO.py", "python -m studies.baselines"."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return f"python {Path(sys.argv[0]).name}"


def run_script(main: Callable[[], None], name: str | None = None) -> None:
    """Run `main` and leave with its exit status: 0, 2 after a user's mistake (one line on stderr), 128 + a signal.

    A status of 0 returns, so that a notebook goes on. Under torchrun, rank 0 prints the messages.
    """
    global _current
    handlers, outer = _handlers(), _current
    _current = command = _Command()
    _install(command.note)
    _replace_what_cannot_be_shown(command)
    try:
        status = _status_of(main, command, name or command_line().split()[-1])
        _leave_process_group(status)
    finally:
        gc.collect()  # maps of files that `main` opened, which Windows would not let be removed
        command.cleanup.close()
        _current = outer
        _restore(handlers)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        _leave_at_once(status)
    if status:
        sys.exit(status)


def _status_of(main: Callable[[], None], command: _Command, name: str) -> int:
    """Run `main`; returns the exit status, and says on stderr what went wrong."""
    try:
        try:
            main()
            sys.stdout.flush()  # what cannot be written is reported below
        finally:
            _install(signal.SIG_IGN)  # what comes while this is done is handled below, what comes later does nothing
        return 0
    except UserError as error:
        _print_error(f"{name}: error: {error}{_options_for(error)}")
    except Interrupted as stop:
        _print_error(f"\n{name}: stopped in {stop}; saved. Continue with: {command_line()} ... {_option('resume')}")
        return 128 + stop.signal_number
    except OSError as error:
        if isinstance(error, BrokenPipeError) or (error.errno == _WINDOWS_EINVAL and error.filename is None):
            # The reader of our output has gone, as in `python evaluate.py | head`.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _BROKEN_PIPE_STATUS
        _print_error(f"{name}: error: {error.filename or 'a file or standard output'}: {error.strerror or error}")
    except (Exception, KeyboardInterrupt) as error:
        # What fails after a signal fails because of it.
        number = command.received[0] if command.received else None
        if number is None and isinstance(error, KeyboardInterrupt):
            number = signal.SIGINT
        if number is not None:
            _print_error(f"\n{name}: stopped.")
            return 128 + number
        if not _is_out_of_memory(error):
            raise
        _print_error(f"{name}: error: out of memory. Use smaller batches or a smaller model.")
    return 2


def _option(parameter: str) -> str:
    return f"--{parameter.replace('_', '-')}"


def _options_for(error: UserError) -> str:
    """The options that set the parameters of an error, to be printed after its message."""
    options = list(map(_option, error.parameters))
    return f" Option{'s' if len(options) > 1 else ''}: {', '.join(options)}" if options else ""


def _print_error(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        with contextlib.suppress(OSError):  # nobody may be there any more to read it
            print(text, file=sys.stderr)


def _replace_what_cannot_be_shown(command: _Command) -> None:
    """Let standard output and error take every character; those that the terminal's encoding lacks become "?"."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's stream has no encoding to fail in
            command.cleanup.callback(stream.reconfigure, errors=stream.errors)
            stream.reconfigure(errors="replace")


def _is_out_of_memory(error: BaseException) -> bool:
    message = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in message or "can't allocate memory" in message)
    )


def _leave_process_group(status: int) -> None:
    if "torch" in sys.modules:
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            if status == 0:
                dist.barrier()  # a rank that leaves while another still works can abort at exit
            dist.destroy_process_group()


def _leave_at_once(status: int) -> None:
    """Skip the end of torch's threads, where ranks that had done all their work now and then aborted under load."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
