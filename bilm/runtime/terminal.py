"""Progress bars with rate and remaining time; where stderr is not a terminal, occasional lines instead."""

import contextlib
import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 20.0


class _Stderr:
    """stderr for tqdm, without errors: a closed terminal or a full disk must not end a run that can still be saved."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


_STDERR = _Stderr()  # one object for bars and notes: tqdm clears a bar only for text written to the bar's own file


class _Lines(_Stderr):
    """stderr with a newline after each state of a bar, so that a log consists of complete lines."""

    def write(self, text: str) -> None:
        if text := text.strip("\r\n "):
            super().write(f"{text}\n")
            self.flush()


class _LoggedBar(tqdm):
    """A bar without tqdm's monitoring thread, which would print states more often than `mininterval`."""

    monitor_interval = 0


def is_live_terminal() -> bool:
    """Whether a line on stderr can be overwritten; in a cell of a notebook it cannot: each state of it would remain."""
    return sys.stderr.isatty() and "JPY_PARENT_PID" not in os.environ


def progress(items: Iterable | None = None, *, total: int | None = None, unit: str, label: str, **options: Any) -> tqdm:
    """Return a tqdm bar on stderr: iterate over it, or call `update(n)` on it. `options` are passed to tqdm."""
    options |= {"total": total, "unit": unit, "desc": label, "leave": False}
    if is_live_terminal():
        return tqdm(items, file=_STDERR, dynamic_ncols=True, **options)
    return _LoggedBar(
        items,
        file=_Lines(),
        ncols=110,
        ascii=True,
        mininterval=SECONDS_BETWEEN_LINES,
        delay=SECONDS_BETWEEN_LINES / 2,  # omits the first state of a bar, which is of no interest in a log
        **options,
    )


def print_note(text: str) -> None:
    """Print a line on stderr without breaking the progress bars there."""
    tqdm.write(text, file=_STDERR)


def print_line(text: str) -> None:
    """Print a line on stdout; without effect when it is closed."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def duration(seconds: float) -> str:
    """Format a duration to about two digits: 40 s, 12 min, 2 h 10 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(round(minutes, -1), 60)
    return f"{hours} h {minutes} min"


class ProgressFile(io.FileIO):
    """A file that reports to a progress bar how many bytes have been read."""

    def __init__(self, path: Path, bar: Any):
        super().__init__(path, "rb")
        self._bar = bar

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        self._bar.update(count or 0)
        return count


def printable(text: str) -> str:
    """Replace each character that controls a terminal, or is invisible, by "�"."""
    return "".join(character if character.isprintable() else "�" for character in text)
