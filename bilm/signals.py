"""Ctrl-C, SIGTERM and a terminal that was closed: when they may interrupt, and when they are only noted.

A signal that is ignored when a script starts (nohup, a job in the background) stays ignored.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_received: list[int] = []
_in_a_script = False


def received() -> int | None:
    """The first signal that came to stop this script, if one did."""
    return _received[0] if _received else None


def _install(handler: Any) -> None:
    for number in STOP:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _note(number: int, _frame: Any) -> None:
    if _received:
        os._exit(128 + number)
    _received.append(number)


def _interrupt(number: int, _frame: Any) -> None:
    _received.append(number)
    raise KeyboardInterrupt(number)


def hold_back() -> None:
    """At the beginning of a script: note signals. Imports swallow exceptions and go on with half a module."""
    global _in_a_script
    _in_a_script = True
    _install(_note)


def let_through() -> None:
    """Once all is imported: a signal raises KeyboardInterrupt(number), and one that came before does so now."""
    if _in_a_script:
        _install(_interrupt)
        if _received:
            raise KeyboardInterrupt(_received[0])


def ignore() -> None:
    """At the end of a script, when what is left is Python putting its things away."""
    _install(signal.SIG_IGN)


@contextmanager
def noted() -> Iterator[list[int]]:
    """Within, a signal is noted in the list that this yields; a second one raises KeyboardInterrupt(number)."""
    numbers: list[int] = []

    def note(number: int, _frame: Any) -> None:
        numbers.append(number)
        if len(numbers) > 1:
            raise KeyboardInterrupt(number)

    previous = {number: signal.getsignal(number) for number in STOP}
    _install(note)
    try:
        yield numbers
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
