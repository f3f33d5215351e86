"""Run commands of this project under the rules of Windows that Linux can imitate.

    python tests/like_windows.py '[["ELMO.py", "--data", "data/sample"], ["evaluate.py"]]'

The rules: no POSIX-only modules, signals and functions; no descriptors of folders; nothing that is open or mapped can
be renamed or removed; os.fsync takes only descriptors that are open for writing; text files are cp1252 with CRLF where
no encoding and newline is named. Standard output in cp1252 is the caller's to set (PYTHONIOENCODING). The libraries
imported below have code of their own for Windows: they are loaded before the rules apply, and filelock is exempt from
them. Not imitated: paths, drives, file attributes, consoles, and all that is compiled.
"""

import builtins
import errno
import fcntl
import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import filelock
import matplotlib.pyplot  # noqa: F401
import psutil  # noqa: F401
import sklearn.metrics  # noqa: F401
import torch.distributed  # noqa: F401
from run_commands import run_all
from tqdm import tqdm  # noqa: F401

ABSENT_MODULES = ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp")
ABSENT_SIGNALS = ("SIGHUP", "SIGPIPE", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD")
ABSENT_FUNCTIONS = ("preadv", "pwritev", "pread", "pwrite", "sysconf", "fork", "getuid", "geteuid", "mkfifo", "killpg")
ABSENT_FUNCTIONS += ("sched_getaffinity", "getloadavg", "fchmod", "posix_fallocate", "nice")


def _is_in_use(path: object) -> bool:
    """Whether this process has `path`, or a file in that folder, open or mapped."""
    expected = os.path.realpath(os.fspath(path))  # type: ignore[call-overload]
    held = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            held.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    with _open("/proc/self/maps", encoding="utf-8") as maps:
        held |= {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if line.count("/")}
    return any(name == expected or name.startswith(f"{expected}/") for name in held)


def _refusing(function, sources):
    """`function`, refused where one of its first `sources` arguments is in use."""

    def wrapper(*paths, **options):
        for path in paths[:sources]:
            if _is_in_use(path):
                raise PermissionError(errno.EACCES, "in use by another process (as on Windows)", str(path))
        return function(*paths, **options)

    return wrapper


_open, _fsync, _os_open, _getfl = io.open, os.fsync, os.open, fcntl.fcntl


def _fsync_like_windows(descriptor):
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    if _getfl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    return _fsync(descriptor)


def _is_called_by_filelock() -> bool:
    return sys._getframe(2).f_globals["__name__"].startswith("filelock")


def _os_open_like_windows(path, flags, *arguments, **options):
    without_name = flags & os.O_TMPFILE == os.O_TMPFILE  # Linux' way to what Windows has O_TEMPORARY for
    if os.path.isdir(path) and not without_name and not _is_called_by_filelock():
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return _os_open(path, flags, *arguments, **options)


def _open_like_windows(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **rest):
    if "b" not in mode and not str(file).startswith(("/proc", "/sys")):
        encoding = "cp1252" if encoding in (None, "locale") else encoding
        if newline is None and any(letter in mode for letter in "wax"):
            newline = "\r\n"
    return _open(file, mode, buffering, encoding, errors, newline, **rest)


class _Absent:
    """An import hook that finds none of the absent modules."""

    def find_spec(self, name, path=None, target=None):
        if name in ABSENT_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _remove_released_lock(release=filelock.UnixFileLock._release):
    """Windows removes the file of a lock once it is released; on Linux filelock leaves that to its user."""

    def wrapper(self):
        release(self)
        Path(self.lock_file).unlink(missing_ok=True)

    return wrapper


def apply_rules() -> None:
    filelock.UnixFileLock._release = _remove_released_lock()  # type: ignore[method-assign]
    for name in ABSENT_MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Absent())  # type: ignore[arg-type]
    for name in ABSENT_SIGNALS:
        delattr(signal, name)
    for name in ABSENT_FUNCTIONS:
        delattr(os, name)
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    os.rename, os.replace = _refusing(os.rename, 2), _refusing(os.replace, 2)
    os.remove = os.unlink = _refusing(os.unlink, 1)
    os.rmdir = _refusing(os.rmdir, 1)
    os.fsync, os.open = _fsync_like_windows, _os_open_like_windows
    builtins.open = io.open = _open_like_windows  # type: ignore[assignment]


def main() -> None:
    commands = json.loads(sys.argv[1])
    apply_rules()
    run_all(commands)


if __name__ == "__main__":
    main()
