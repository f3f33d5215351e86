"""Training with several processes under torchrun gives the result of one process."""

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE, TINY, run_script, start, torchrun, wait_for_checkpoints
from torch.distributed.run import get_args_parser

from bilm.checkpoints import serialization

# Without dropout, whose masks differ from rank to rank.
PRETRAIN = ["ELMO.py", "--data", SAMPLE, *TINY, "--dropout", 0, "--epochs", 3]


def history(output: Path) -> dict:
    return json.loads((output / "results/sample/bilstm_training.json").read_text())


def assert_same_course(result: dict, expected: dict) -> None:
    assert [p["loss"] for p in result["curve"]] == pytest.approx([p["loss"] for p in expected["curve"]], rel=1e-4)
    for a, b in zip(result["epochs"], expected["epochs"], strict=True):
        assert a["perplexity"] == pytest.approx(b["perplexity"], rel=1e-3)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict:
    """The history of an uninterrupted run in one process."""
    output = tmp_path_factory.mktemp("alone")
    run = run_script(*PRETRAIN, "--output", output, OMP_NUM_THREADS="1")
    assert run.code == 0, run.err
    return history(output)


def test_two_processes_have_the_loss_curve_of_one(alone, tmp_path):
    """On the same global batches."""
    run = run_script(*torchrun(), *PRETRAIN, "--output", tmp_path, OMP_NUM_THREADS="1")
    assert run.code == 0, run.err
    assert run.out.count("Wrote") == 1, "one rank prints"
    assert not (tmp_path / "runs").exists(), "the ids of the texts are removed at the end"
    assert history(tmp_path)["processes"] == 2
    assert_same_course(history(tmp_path), alone)


@pytest.mark.slow
@pytest.mark.parametrize("two_at_first", [True, False], ids=["2 to 1", "1 to 2"])
def test_a_run_goes_on_with_another_number_of_processes(alone, tmp_path, two_at_first):
    first, then = (torchrun(), []) if two_at_first else ([], torchrun())
    process = start(*first, *PRETRAIN, "--output", tmp_path, "--checkpoint-seconds", 0)
    unfinished = tmp_path / "runs/sample/bilm.pt"
    wait_for_checkpoints(unfinished, process, 3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert 0 < serialization.load(unfinished, "training")["state"]["step"] < alone["curve"][-1]["step"]
    assert (tmp_path / "runs/sample/training-texts").exists(), "the ids are kept for the resumed run"
    run = run_script(*then, *PRETRAIN, "--output", tmp_path, "--resume", OMP_NUM_THREADS="1")
    assert run.code == 0, run.err
    assert_same_course(history(tmp_path), alone)


@pytest.mark.slow
def test_characters_in_two_processes_follow_the_course_of_one(tmp_path):
    arguments = ["ELMO.py", "--data", SAMPLE, *TINY, "--dropout", 0, "--epochs", 2, "--token-layer", "word+char"]
    for name, command in (("one", []), ("two", torchrun())):
        run = run_script(*command, *arguments, "--output", tmp_path / name, OMP_NUM_THREADS="1")
        assert run.code == 0, run.err
    assert_same_course(history(tmp_path / "two"), history(tmp_path / "one"))


def test_a_mistake_in_the_data_ends_all_ranks_with_one_line(tmp_path):
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        (tmp_path / f"data/{split}.csv").write_text('"1","t","fine"\n"9","t","text"\n', encoding="utf-8")
    arguments = ["ELMO.py", "--data", tmp_path / "data", "--output", tmp_path / "out"]
    run = run_script(*torchrun(), *arguments, OMP_NUM_THREADS="1")
    assert run.code != 0 and run.err.count("ELMO.py: error: ") == 1 and "'9' is not a class" in run.err, run.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_finetuning_in_two_processes(trained, tmp_path):
    output, _ = trained
    subprocess.run(["cp", "-r", f"{output}/.", tmp_path], check=True)
    common = ["--data", SAMPLE, "--output", tmp_path, "--precision", "fp32", "--epochs", 1]
    run = run_script(*torchrun(), "classification.py", *common, "--mode", "finetune", OMP_NUM_THREADS="1")
    assert run.code == 0 and run.out.count("Wrote") == 2, run.err


def test_evaluation_in_two_processes_is_refused(trained):
    run = run_script(*torchrun(), "evaluate.py", "--data", SAMPLE, "--output", trained[0], OMP_NUM_THREADS="1")
    assert run.code != 0 and run.err.count("evaluate.py: error: this command runs in one process") == 1, run.err


@pytest.mark.slow
def test_a_disk_that_fills_up_under_torchrun_ends_all_ranks_with_one_line(tmp_path):
    arguments = ["ELMO.py", "--data", SAMPLE, "--output", tmp_path, *TINY, "--epochs", 2, "--checkpoint-seconds", 0]
    command = shlex.join(map(str, [sys.executable, *torchrun(), *arguments]))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 100; OMP_NUM_THREADS=1 exec {command}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (
        done.returncode != 0
        and done.stderr.count("ELMO.py: error: ") == 1
        and "bilm.pt could not be written" in done.stderr
    )
    assert "Connection closed by peer" not in done.stderr, done.stderr


def test_torchrun_takes_no_option_of_ours_for_one_of_its_own():
    """torchrun also parses options after the script's name, and accepts prefixes of its own options."""
    torchrun_flags = [flag for action in get_args_parser()._actions for flag in action.option_strings]
    message = run_script("ELMO.py", "--help").out + run_script("classification.py", "--help").out
    own = set(re.findall(r"^  (--[a-z-]+)", message, re.MULTILINE)) - {"--help"}
    assert {"--start-from", "--train", "--resume"} <= own and "--master-port" in torchrun_flags
    assert not [(flag, other) for flag in own for other in torchrun_flags if other.startswith(flag)]
