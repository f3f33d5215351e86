"""The scripts and tools under rules of Windows that Linux can imitate; see like_windows.py for what these are."""

import json
import shutil
import signal
import sys

import pytest
from conftest import SAMPLE, TINY, run_process, start, wait_for_checkpoints

from bilm.checkpoints import serialization

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="imitates Windows on Linux")
PRETRAIN = ["ELMO.py", "--data", SAMPLE, *TINY, "--epochs", 2]


def like_windows(*commands, **environment):
    """All commands, one after the other, in one process whose standard output is in cp1252."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    return run_process("tests/like_windows.py", words, PYTHONIOENCODING="cp1252", PYTHONUTF8="0", **environment)


def identity(output, name="bilstm.pt"):
    kind = "bilm" if name == "bilstm.pt" else "classifier"
    return serialization.load(output / "models/sample" / name, kind)["id"]


def leftovers(output):
    return [path for path in output.rglob("*") if path.suffix in (".tmp", ".lock", ".holder") or "runs" in path.parts]


def test_scripts_and_tools_from_the_start(trained, tmp_path):
    """The same weights as an ordinary run, and nothing left that could not be removed."""
    common = ["--data", SAMPLE, "--output", tmp_path]
    model = ["--bilm", tmp_path / "models/sample/bilstm.pt"]
    run = like_windows(
        [*PRETRAIN, "--output", tmp_path],
        ["classification.py", *common, "--precision", "fp32", "--epochs", 2, "--hidden", 16],
        ["evaluate.py", *common, "--split", "all"],
        ["-m", "bilm", "predict", *model, "Żółw, stocks \N{SNOWMAN} fell."],
        ["-m", "bilm", "predict", *model, "--input", SAMPLE / "test.csv", "--column", 3, "--format", "jsonl"],
        ["-m", "bilm", "vectors", *model, "Rain fell.", "--output", tmp_path / "rain.npz"],
        [
            "-m",
            "bilm",
            "neighbours",
            *model,
            "--build",
            "--input",
            SAMPLE / "test.csv",
            "--column",
            3,
            "--index",
            tmp_path / "i",
        ],
        [
            "-m",
            "bilm",
            "neighbours",
            *model,
            "--build",
            "--input",
            SAMPLE / "test.csv",
            "--column",
            3,
            "--index",
            tmp_path / "i",
        ],
        ["-m", "bilm", "neighbours", *model, "--index", tmp_path / "i", "--word", "fell", "Stocks fell."],
        ["-m", "bilm", "lm", *model, "The ___ fell."],
    )
    assert run.code == 0, run.err
    assert identity(tmp_path) == identity(trained[0])
    for mode in ("trainable", "frozen", "function"):
        assert identity(tmp_path, f"classifier_{mode}.pt") == identity(trained[0], f"classifier_{mode}.pt")
    assert leftovers(tmp_path) == []


@pytest.mark.slow
def test_stopped_by_ctrl_c_and_resumed(trained, tmp_path):
    common = ["--output", tmp_path, "--checkpoint-seconds", 0]
    process = start("tests/like_windows.py", json.dumps([[str(word) for word in [*PRETRAIN, *common]]]))
    wait_for_checkpoints(tmp_path / "runs/sample/bilm.pt", process, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "saved. Continue with: python ELMO.py" in err, err
    run = like_windows([*PRETRAIN, "--output", tmp_path, "--resume"])
    assert run.code == 0, run.err
    assert identity(tmp_path) == identity(trained[0]) and leftovers(tmp_path) == []


def test_the_rules_are_in_force(tmp_path):
    """Each rule refuses what Windows refuses, so that the tests above mean something."""
    probe = tmp_path / "probe.py"
    probe.write_text(
        f"""
import os, signal, sys
sys.path.insert(0, {str(tmp_path)!r})
folder = {str(tmp_path)!r}
def refused(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return type(error).__name__
    return "allowed"
path = os.path.join(folder, "file")
file = open(path, "w")
file.write("line\\n")
print(refused(os.rename, path, path + "2"), refused(os.remove, path), refused(os.open, folder, os.O_RDONLY))
file.close()
print(open(path, "rb").read())
with open(path, "rb") as file:
    print(refused(os.fsync, file.fileno()))
print(refused(os.rename, path, path + "2"), hasattr(signal, "SIGHUP"), hasattr(os, "preadv"))
try:
    import fcntl
except ImportError:
    print("no fcntl")
""",
        encoding="utf-8",
    )
    run = like_windows([probe])
    assert run.out.splitlines()[1:] == [
        "PermissionError PermissionError PermissionError",
        "b'line\\r\\n'",
        "OSError",
        "allowed False False",
        "no fcntl",
    ], run.err


@pytest.fixture(autouse=True)
def cleared(tmp_path):
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)
