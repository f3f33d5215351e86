"""How a command ends, and that it leaves a process which continues (a notebook, runpy, a test) unchanged."""

import errno
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, run_process, run_script

from bilm import ELMo
from bilm.runtime import process
from bilm.runtime.errors import OtherRankError, UserError


def handlers():
    return [signal.getsignal(number) for number in process.STOP_SIGNALS]


@pytest.mark.parametrize(
    "arguments", [["evaluate.py", "--help"], ["evaluate.py", "--data", "nowhere"], ["ELMO.py", "-x"]]
)
def test_handlers_streams_and_threads_are_as_they_were(arguments, tmp_path):
    before = (handlers(), sys.stdout.errors, torch.get_num_threads())
    run_script(*arguments)
    assert (handlers(), sys.stdout.errors, torch.get_num_threads()) == before


def test_ctrl_c_still_works_after_a_command():
    run_script("evaluate.py", "--help")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
        "[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
    ],
    ids=["CUDA", "cuBLAS", "Linux", "Windows"],
)
def test_memory_that_runs_out_is_one_line(message, capsys):
    def command():
        raise RuntimeError(message)

    with pytest.raises(SystemExit) as stop:
        process.run_script(command)
    err = capsys.readouterr().err
    assert stop.value.code == 2 and "out of memory. Use smaller batches" in err and err.count("\n") == 1


def test_a_command_that_succeeds_returns():
    """IPython's %run and a notebook continue after it."""
    process.run_script(lambda: None)


def test_what_is_registered_for_the_end_is_called_last_first_also_after_a_mistake():
    called = []

    def main():
        process.at_end(lambda: called.append(1))
        process.at_end(lambda: called.append(2))
        raise UserError("wrong")

    with pytest.raises(SystemExit) as end:
        process.run_script(main)
    assert end.value.code == 2 and called == [2, 1]


def test_a_fault_of_ours_is_a_traceback_and_cleans_up(capsys):
    called = []

    def main():
        process.at_end(lambda: called.append(1))
        raise ZeroDivisionError

    before = handlers()
    with pytest.raises(ZeroDivisionError):
        process.run_script(main)
    assert called == [1] and handlers() == before


def test_a_signal_during_imports_is_kept_until_they_are_done(capsys):
    def main():
        signal.raise_signal(signal.SIGTERM)
        process.allow_interrupts()
        raise AssertionError("not reached")

    with pytest.raises(SystemExit) as end:
        process.run_script(main)
    assert end.value.code == 128 + signal.SIGTERM and "stopped." in capsys.readouterr().err


def test_a_signal_within_a_destructor_is_not_lost(capsys):
    """Python only reports what is raised there, and continues."""

    class Closing:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def main():
        process.allow_interrupts()
        Closing()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            pass
        raise AssertionError("not reached")

    before = sys.unraisablehook
    with pytest.raises(SystemExit) as end:
        process.run_script(main)
    text = capsys.readouterr().err
    assert end.value.code == 128 + signal.SIGTERM and "stopped." in text and "ignored" not in text
    assert sys.unraisablehook is before


def test_a_thread_that_is_not_the_main_one_can_train_and_be_told_nothing():
    """Only the main thread may install handlers; elsewhere deferring signals does nothing."""
    result = []

    def work():
        with process.defer_signals() as received:
            result.append(received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert result == [[]]


def test_output_that_the_terminal_cannot_show_is_replaced(trained_bilm):
    """A terminal in cp1252, as on Windows."""
    run = run_process("-m bilm predict", "--bilm", trained_bilm, "Ł\N{SNOWMAN}", PYTHONIOENCODING="cp1252")
    assert run.code == 0 and "??" in run.out.splitlines()[-1], run.err


def test_a_reader_that_has_gone_is_no_failure_of_ours(tmp_path):
    command = f"{sys.executable} evaluate.py --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr and done.stdout.strip() in ("0", "141")


def test_the_library_leaves_signals_and_threads_alone(trained_bilm):
    before = (handlers(), torch.get_num_threads())
    ELMo.load(trained_bilm).embed(["Rain fell."])
    assert (handlers(), torch.get_num_threads()) == before


def test_a_signal_after_the_work_is_done_changes_nothing():
    """Ctrl-C while a command cleans up causes no traceback and does not prevent the clean-up."""
    called = []

    def main():
        process.at_end(lambda: called.append("cleaned up"))
        process.at_end(lambda: signal.raise_signal(signal.SIGINT))
        process.allow_interrupts()

    process.run_script(main)
    assert called == ["cleaned up"]


@pytest.mark.skipif(os.name == "nt", reason="needs the shell of Unix")
@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_stream_that_was_closed_before_the_start_is_not_missed(stream, trained_bilm, tmp_path):
    """As by `>&-` in a shell, and for all three by Windows' Task Scheduler."""
    number = {"stdin": 0, "stdout": 1, "stderr": 2}[stream]
    options = ["-m", "bilm", "vectors", "Rain fell.", "--bilm", trained_bilm, "--output", tmp_path / "x.npz"]
    command = shlex.join([sys.executable, *map(str, options)])
    run = subprocess.run(["sh", "-c", f"{command} {number}>&-"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and "Traceback" not in run.stderr and (tmp_path / "x.npz").exists(), run.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows reports a closed pipe by this error")
def test_an_error_of_a_disk_is_not_taken_for_a_reader_that_has_gone(capsys):
    def main():
        raise OSError(errno.EINVAL, "Invalid argument")

    with pytest.raises(SystemExit, match="2"):
        process.run_script(main)
    assert "Invalid argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "shown"),
    [(UserError("there is 1 GPU."), True), (OtherRankError("no file"), False), (OSError(28, "No space"), True)],
)
def test_each_rank_tells_what_it_alone_knows(error, shown, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")

    def main():
        raise error

    with pytest.raises(SystemExit, match="2"):
        process.run_script(main, "ELMO.py")
    assert ("rank 1: ELMO.py: error: " in capsys.readouterr().err) == shown


def test_arguments_are_quoted_for_the_shell_of_the_system(monkeypatch):
    assert (process.quoted("a b"), process.quoted("a/b")) == ("'a b'", "a/b")
    monkeypatch.setattr(process, "os", SimpleNamespace(name="nt"))
    assert (process.quoted(r"C:\My texts\a.pt"), process.quoted(r"models\a.pt")) == (
        '"C:\\My texts\\a.pt"',
        r"models\a.pt",
    )


@pytest.mark.parametrize(
    ("started", "expected"),
    [("/usr/bin/bilm", "bilm"), ("Scripts/bilm.exe", "bilm"), ("./ELMO.py", "python ELMO.py"), ("-c", "python -c")],
)
def test_the_command_that_is_told_can_be_repeated(started, expected, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys, "argv", [started, "fit"])
    assert process.command_line() == expected
