"""Each part of the benchmark runs in a process of its own, so that neither memory nor warm caches mix."""

import multiprocessing
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.measure import Memory
from benchmarks.sizes import Sizes
from bilm.cli.options import RunOptions
from bilm.cli.run import Runtime, start
from bilm.runtime.errors import UserError


@dataclass(frozen=True)
class Job:
    """What a part is told. train, test: the CSV files; folder: for what it writes, gone afterwards."""

    run: RunOptions
    sizes: Sizes
    train: Path
    test: Path
    folder: Path

    def at_most(self, rows: int) -> int:
        """`rows`, or --limit where that is less."""
        return min(rows, self.run.limit or rows)


Part = Callable[[Job, Runtime], dict[str, Any]]


def in_own_process(part: Part, job: Job) -> tuple[dict[str, Any], dict[str, int | None]]:
    """What `part` returns, and Memory.figures() of its process. Raises what it raises."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(part, job, sender), daemon=True)
    process.start()
    sender.close()
    try:
        error, figures, memory = receiver.recv()
    except EOFError:
        process.join()
        raise UserError(
            f"a part of the benchmark ended with exit code {process.exitcode}; -9 is what a machine without memory "
            "left does."
        ) from None
    except KeyboardInterrupt:
        process.kill()
        raise
    finally:
        process.join()
    if error is not None:
        raise error
    return figures, memory


def _work(part: Part, job: Job, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent ends this one
    tqdm.set_lock(threading.RLock())  # tqdm's own is a semaphore of the system, which a killed process leaves behind
    try:
        with Memory() as memory:
            figures = part(job, start(job.run))
        sender.send((None, figures, memory.figures()))
    except Exception as error:
        if not isinstance(error, UserError):
            error.add_note(traceback.format_exc())
        sender.send((error, None, None))
