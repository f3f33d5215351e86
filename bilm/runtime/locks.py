"""One writer at a time: a lock on a file, which the operating system releases however the process ends.

The holder of a lock is recorded in a second file, because Windows does not let other processes read a locked file.
"""

import contextlib
import datetime
import os
import socket
from collections.abc import Callable
from pathlib import Path

from bilm.runtime.errors import UserError


def acquire_lock(path: Path, refusal: str, *parameters: str) -> Callable[[], None]:
    """Lock the file `path`, creating its folder if necessary; return the function that releases the lock.

    Raises UserError, "process 12 on HOST (since ...) `refusal`", with these `parameters`, when another process holds
    the lock. A killed process leaves two files without a lock, which the next holder reuses.
    """
    from filelock import FileLock, Timeout  # takes 0.1 s to import, which `--help` does not need

    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_name(f"{path.name}.holder")
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        owner = ""
        with contextlib.suppress(OSError):
            owner = holder.read_text(encoding="utf-8")
        raise UserError(f"{owner or 'another process'} {refusal}", *parameters) from None

    locked = path.stat()

    def release() -> None:
        # Deleted while the lock is held: filelock notices a deleted file, and locks the new one. Windows cannot delete
        # an open file, but there filelock deletes it once the lock is released.
        with contextlib.suppress(OSError):
            if os.path.samestat(path.stat(), locked):  # not another process's file, after this one was deleted by hand
                holder.unlink(missing_ok=True)
                path.unlink()
        lock.release()

    try:
        now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()} (since {now})", encoding="utf-8")
    except OSError:  # a full disk: better reported now than after an hour
        release()
        raise
    return release
