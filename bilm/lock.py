"""One writer at a time: a lock on a folder that a dead process does not leave behind."""

import contextlib
import datetime
import errno
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path

from bilm.errors import UserError


def take(path: Path, refusal: str) -> Callable[[], None]:
    """Lock the file `path`; returns what releases it.

    Raises UserError, "process 12 on HOST (since ...) `refusal`", when another holds it. The lock is the kernel's
    (flock), so it goes with its holder, however that ends; what a killed process leaves is a file without a lock.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # another holder that left took its folder along
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 200).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise UserError(f"{holder} {refusal}") from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            print(
                f"Note: {path.parent} is on a file system without locks; see to it that one run at a time writes there."
            )
            break
        # A holder that was just leaving removes its file: then this lock is on a file that nobody else will find.
        if _is(path, descriptor):
            break
        os.close(descriptor)

    def release() -> None:
        with contextlib.suppress(OSError):
            if _is(path, descriptor):  # and not another's, made after this one was deleted by hand
                path.unlink()
        os.close(descriptor)

    try:
        os.ftruncate(descriptor, 0)
        now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()} (since {now})".encode())
    except OSError:  # a full disk: better now than after an hour
        release()
        raise
    return release


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
