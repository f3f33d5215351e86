"""One writer at a time: a lock on a file that goes with its holder, however that ends.

Who holds a lock stands in a file beside it: Windows lets nobody read a file whose bytes are locked.
"""

import contextlib
import datetime
import os
import socket
from collections.abc import Callable
from pathlib import Path

from bilm.runtime.errors import UserError


def acquire_lock(path: Path, refusal: str, *parameters: str) -> Callable[[], None]:
    """Lock the file `path`, whose folder is made if need be; returns the function that releases it.

    Raises UserError, "process 12 on HOST (since ...) `refusal`", with these `parameters`, when another process holds
    it. A killed process leaves two files without a lock, which the next holder takes over.
    """
    from filelock import FileLock, Timeout  # 0.1 s to import, which --help need not wait for

    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_name(f"{path.name}.holder")
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        with contextlib.suppress(OSError):
            if text := holder.read_text(encoding="utf-8"):
                raise UserError(f"{text} {refusal}", *parameters) from None
        raise UserError(f"another process {refusal}", *parameters) from None

    locked = path.stat()

    def release() -> None:
        # While it is still held: filelock notices a file that was deleted under it, and takes the new one. Windows
        # deletes no open file, but there filelock does it once the lock is released.
        with contextlib.suppress(OSError):
            if os.path.samestat(path.stat(), locked):  # and not another's, made after this one was deleted by hand
                holder.unlink(missing_ok=True)
                path.unlink()
        lock.release()

    try:
        now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()} (since {now})", encoding="utf-8")
    except OSError:  # a full disk: better now than after an hour
        release()
        raise
    return release
