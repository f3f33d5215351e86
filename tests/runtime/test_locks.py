import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from bilm.runtime import files, locks
from bilm.runtime.errors import UserError
from bilm.runtime.files import read_json, write_json

HOLD = """
import pathlib, sys
from bilm.runtime import locks
release = locks.acquire_lock(pathlib.Path(sys.argv[1]), "")
print(1, flush=True)
"""


def test_a_second_holder_is_refused_and_told_who_the_first_is(tmp_path):
    path = tmp_path / "folder" / "x.lock"
    release = locks.acquire_lock(path, "is at work.")
    with pytest.raises(UserError, match=rf"process {os.getpid()} on .* \(since .*\) is at work\."):
        locks.acquire_lock(path, "is at work.")
    release()
    assert list(path.parent.iterdir()) == []
    locks.acquire_lock(path, "is at work.")()


def test_a_lock_file_that_was_deleted_by_hand_costs_its_holder_nothing_else(tmp_path):
    """Releasing the first lock does not remove the file of the second one."""
    path = tmp_path / "x.lock"
    first = locks.acquire_lock(path, "")
    path.unlink()
    second = locks.acquire_lock(path, "")
    first()
    with pytest.raises(UserError):
        locks.acquire_lock(path, "")
    second()


def test_a_killed_holder_leaves_nothing_that_stands_in_the_way(tmp_path):
    path = tmp_path / "x.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD + "import time; time.sleep(60)", str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout and holder.stdout.readline() == "1\n"
    with pytest.raises(UserError, match=f"process {holder.pid} "):
        locks.acquire_lock(path, "")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert path.exists()
    locks.acquire_lock(path, "")()


def test_of_many_at_once_one_is_in(tmp_path):
    """Each process repeatedly acquires the lock, whose file is created and deleted, and checks that it is alone."""
    crowd = """
import os, pathlib, sys, time
from bilm.runtime import locks
from bilm.runtime.errors import UserError
folder, inside, times = pathlib.Path(sys.argv[1]), None, 0
end = time.monotonic() + 1.5
while time.monotonic() < end:
    try:
        release = locks.acquire_lock(folder / "x.lock", "")
    except UserError:
        continue
    os.mkdir(folder / "inside")  # fails if another process holds the lock
    times += 1
    os.rmdir(folder / "inside")
    release()
print(times)
"""
    command = [sys.executable, "-c", crowd, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    time.sleep(0.1)
    times = [int(process.communicate()[0] or 0) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4 and sum(times) > 10


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_that_a_virus_scanner_has_open_is_replaced_a_moment_later(tmp_path, monkeypatch):
    refusals, replace = [PermissionError(13, "Access is denied")] * 3, os.replace

    def busy(source, target):
        if refusals:
            raise refusals.pop()
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", busy)
    monkeypatch.setattr(files, "PAUSES", (0.0,) * 3)
    write_json(tmp_path / "a.json", {"a": 1})
    assert read_json(tmp_path / "a.json") == {"a": 1}
    refusals += [PermissionError(13, "Access is denied")] * 4
    with pytest.raises(UserError, match="Access is denied"):
        write_json(tmp_path / "a.json", {"a": 2})
    assert read_json(tmp_path / "a.json") == {"a": 1} and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has other links and pipes")
def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "there.json")
    write_json(tmp_path / "link.json", {"a": 1})
    assert (tmp_path / "link.json").is_symlink() and read_json(tmp_path / "there.json") == {"a": 1}
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(UserError, match="Name a file"):
            write_json(path, {})
        assert path.exists() and not path.is_file()
