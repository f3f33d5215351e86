"""Progress bars with rate and ETA; off a terminal, a line now and then instead."""

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
    """For tqdm. A terminal that was closed, or a full disk, is no reason to end a run that can still be saved."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


_STDERR = _Stderr()  # one for bars and remarks: tqdm clears a bar only for what is written to the bar's own file


class _Lines(_Stderr):
    """Ends each state of the bar with a newline, so that a log keeps whole lines."""

    def write(self, text: str) -> None:
        if text := text.strip("\r\n "):
            super().write(f"{text}\n")
            self.flush()


class _LoggedBar(tqdm):
    """Without tqdm's watching thread, which would print states again that are not old enough."""

    monitor_interval = 0


def is_live_terminal() -> bool:
    """Whether a line on stderr can be drawn again: not in a cell of a notebook, which would keep each state of it."""
    return sys.stderr.isatty() and "JPY_PARENT_PID" not in os.environ


def progress(items: Iterable | None = None, *, total: int | None = None, unit: str, label: str, **more: Any) -> tqdm:
    """A tqdm bar on stderr: iterate over it, or call `update(n)` on it. `more` goes to tqdm."""
    if is_live_terminal():
        return tqdm(items, total=total, unit=unit, desc=label, file=_STDERR, dynamic_ncols=True, leave=False, **more)
    return _LoggedBar(
        items,
        total=total,
        unit=unit,
        desc=label,
        file=_Lines(),
        ncols=110,
        ascii=True,
        mininterval=SECONDS_BETWEEN_LINES,
        # The first and the last state of a bar are no news in a log.
        delay=SECONDS_BETWEEN_LINES / 2,
        leave=False,
        **more,
    )


def print_note(text: str) -> None:
    """A line on stderr that leaves the bars on it whole."""
    tqdm.write(text, file=_STDERR)


def print_line(text: str) -> None:
    """A line on stdout, where there is somebody to read it."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


class ProgressFile(io.FileIO):
    """A file that tells a progress bar how far it has been read."""

    def __init__(self, path: Path, bar: Any):
        super().__init__(path, "rb")
        self._bar = bar

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        self._bar.update(count or 0)
        return count


def printable(text: str) -> str:
    """`text` with a mark in place of each character that gives orders to a terminal, or shows as nothing."""
    return "".join(character if character.isprintable() else "�" for character in text)
