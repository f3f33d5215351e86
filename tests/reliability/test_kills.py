"""Runs that are killed at random moments, again and again, and resumed: they end with the bits of one that was not."""

import fcntl
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE, TINY, run_script

from bilm.checkpoints import serialization

KILL, INTERRUPT, TERMINATE, HANG_UP = signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP
# What a stopped process ends with.
ENDS = {KILL: -KILL, INTERRUPT: 130, TERMINATE: 143, HANG_UP: 129}
MODES = ("trainable", "frozen", "function")
# What ELMO.py and classification.py print once they are about to train.
UP = "to train on"


@dataclass
class Job:
    """A command of this project, what it makes, and how long it takes when nobody interferes."""

    arguments: list[str]
    prepared: Path | None  # what must be there before it starts
    files: list[str]
    results: list[str]
    seconds: float = 0.0
    expected: list[str] = field(default_factory=list)

    def prepare(self, output: Path) -> None:
        shutil.rmtree(output, ignore_errors=True)
        if self.prepared:
            shutil.copytree(self.prepared, output)

    def outcome(self, output: Path) -> list[str]:
        """Weights and history, bit for bit; not the times of day."""
        result = []
        for name in self.files:
            saved = serialization.load(output / "models/sample" / name, name.split("_")[0].replace("bilstm.pt", "bilm"))
            result.append(saved["id"])  # of the weights before they were halved
        for name in self.results:
            history = json.loads((output / "results/sample" / name).read_text())
            epochs = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in history["epochs"]]
            result.append(json.dumps([epochs, history["curve"]]))
        return result

    def run_through(self, output: Path) -> "Job":
        self.prepare(output)
        started = time.monotonic()
        run = run_script(*self.arguments, "--output", output)
        assert run.code == 0, run.err
        self.seconds, self.wanted = time.monotonic() - started, self.outcome(output)
        return self


@pytest.fixture(scope="module")
def jobs(trained, tmp_path_factory) -> dict[str, Job]:
    folder = tmp_path_factory.mktemp("jobs")
    pretrained = folder / "pretrained"
    (pretrained / "models/sample").mkdir(parents=True)
    shutil.copy(trained[0] / "models/sample/bilstm.pt", pretrained / "models/sample")
    pretraining = ["ELMO.py", "--data", str(SAMPLE), *TINY, "--epochs", "6"]
    classification = ["classification.py", "--data", str(SAMPLE), "--precision", "fp32", "--epochs", "3"]
    return {
        "pretraining": Job(pretraining, None, ["bilstm.pt"], ["bilstm_training.json"]).run_through(folder / "whole"),
        "classification": Job(
            [*classification, "--hidden", "16", "--batch-tokens", "512"],
            pretrained,
            [f"classifier_{mode}.pt" for mode in MODES],
            [f"classifier_{mode}_training.json" for mode in MODES],
        ).run_through(folder / "whole"),
    }


def position(output: Path) -> tuple[int, int, int]:
    """How far the job has come on disk: files that are finished and need no checkpoint; epoch and batch of the rest."""
    unfinished = {p.name.replace("bilm", "bilstm"): p for p in output.glob("runs/sample/*.pt")}
    finished = {p.name for p in output.glob("models/sample/*.pt")} - {"classifier.pt", *unfinished}
    states = [serialization.load(path, "training")["state"] for path in unfinished.values()]
    assert len(states) <= 1
    return (len(finished), *((states[0]["epoch"], states[0]["batch"]) if states else (0, 0)))


@dataclass
class Tally:
    kills: int = 0
    in_training: int = 0
    in_writing: int = 0
    runs: int = 0
    seconds_lost: list[float] = field(default_factory=list)


def heed_signals() -> None:
    """In the new process: also where these tests themselves run in the background, or under nohup."""
    for number in (INTERRUPT, TERMINATE, HANG_UP):
        signal.signal(number, signal.SIG_DFL)


def is_writing(output: Path) -> bool:
    try:
        return any(output.glob("*/sample/.*.tmp"))
    except FileNotFoundError:  # a folder went while it was looked through
        return False


def stopped(job: Job, output: Path, number: signal.Signals, chance: random.Random, tally: Tally) -> bool:
    """One session that goes on where the last one stopped, and is stopped; False when it came to its end before."""
    every, before = chance.choice(["0", "0.3"]), position(output)
    log = output.parent / "log"
    with open(log, "w") as out:
        process = subprocess.Popen(
            [sys.executable, "-u", *job.arguments, "--output", str(output), "--resume", "--checkpoint-seconds", every],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if k != "AG_NEWS_DIR"},
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=heed_signals,
        )
    # Once the script has said that it is up; what comes while Python starts is not this project's to handle.
    while process.poll() is None and UP not in log.read_text():
        time.sleep(0.002)
    training_since, writing = time.time(), False
    # Every other time while a file is being written; else at any time at all.
    when_writing = chance.random() < 0.5
    sightings = chance.randint(1, 40)
    moment = time.monotonic() + chance.uniform(0, job.seconds)
    while process.poll() is None:
        writing = is_writing(output)
        sightings -= writing
        if time.monotonic() > moment if not when_writing else sightings <= 0:
            break
        time.sleep(0.0005)
    if process.poll() is not None:
        process.wait()
        assert process.returncode == 0, log.read_text()
        return False
    process.send_signal(number)
    if number == INTERRUPT and chance.random() < 0.2:
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(number)  # an impatient user
    killed = time.time()
    process.wait(timeout=60)
    message = log.read_text()
    if process.returncode == 0 or "Next: python" in message:  # the signal came after the last line of the script
        return False
    assert process.returncode == ENDS[number], (process.returncode, message)
    assert "Traceback" not in message, message
    after = position(output)
    tally.kills += 1
    tally.in_writing += writing
    tally.in_training += 1
    checkpoints = [p.stat().st_mtime for p in output.glob("runs/sample/*.pt")]
    tally.seconds_lost.append(max(0.0, killed - max([training_since, *checkpoints])))
    assert tally.seconds_lost[-1] < float(every) + 60, "a checkpoint was due, however busy the machine is"
    # A session goes on where the last one was saved, and saves more.
    assert after >= before
    if after > before > (before[0], 0, 0):
        place = rf"in epoch {before[1] + 1} of \d+, after step {before[2]}\n|after the last epoch\n"
        assert re.search(f"resuming ({place})", message), message
    if place := re.search(r"stopped in epoch (\d+) of \d+, after step (\d+) of \d+; saved", message):
        assert after[1:] == (int(place[1]) - 1, int(place[2])), message
    # Whatever bears its final name is whole.
    for path in [*output.glob("models/sample/*.pt"), *output.glob("runs/sample/*.pt")]:
        kind = "training" if path.parts[-3] == "runs" else "bilm" if path.name == "bilstm.pt" else "classifier"
        serialization.load(path, kind)
    for path in output.glob("results/sample/*.json"):
        json.loads(path.read_text())
    return True


def test_a_closed_terminal(jobs, tmp_path):
    """The run is told (SIGHUP), can say nothing any more, and has saved where it was."""
    job, output = jobs["pretraining"], tmp_path / "output"
    own, other = pty.openpty()
    long = ["--checkpoint-seconds", "1000", "--batch-tokens", "1", "--epochs", "1000"]  # 360 steps an epoch
    process = subprocess.Popen(
        [sys.executable, *job.arguments, "--output", str(output), *long],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "AG_NEWS_DIR"},
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
        preexec_fn=lambda: (heed_signals(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
    )
    os.close(other)
    message = b""
    while b"epoch 1/1000:" not in message:
        assert select.select([own], [], [], 60)[0], message
        message += os.read(own, 1 << 16)
    os.close(own)
    assert process.wait(timeout=60) == 128 + HANG_UP
    state = serialization.load(output / "runs/sample/bilm.pt", "training")["state"]
    assert state["step"] > 0, "saved where it was: mostly in the middle of an epoch, at its end now and then"
    assert not list(output.rglob("*.lock"))


ANY = (KILL, INTERRUPT, TERMINATE, HANG_UP)
ROUNDS = [
    pytest.param("pretraining", (KILL, INTERRUPT), 2, id="pretraining, once each"),
    pytest.param("classification", (TERMINATE,), 1, id="classification, once"),
    *(
        pytest.param(name, (one,), 30, id=f"{name}, {one.name}", marks=pytest.mark.slow)
        for name in ("pretraining", "classification")
        for one in ANY
    ),
]


@pytest.mark.parametrize(("name", "signals", "kills"), ROUNDS)
def test_stopped_at_any_moment(jobs, tmp_path, record, name, signals, kills):
    job, output, tally = jobs[name], tmp_path / "output", Tally()
    seed = f"{name} {signals}"
    print(f"random.Random({seed!r})")  # pytest shows it where the test fails
    chance = random.Random(seed)
    while tally.kills < kills:
        job.prepare(output)
        while tally.kills < kills and stopped(job, output, signals[tally.kills % len(signals)], chance, tally):
            pass
        if tally.kills == kills:
            last = run_script(*job.arguments, "--output", output, "--resume")
            assert last.code == 0, last.err
        tally.runs += 1
        assert tally.runs <= 10 * kills, "hardly a signal arrives"
        assert job.outcome(output) == job.wanted
        assert [p for p in output.rglob("*") if p.suffix in (".tmp", ".lock") or p.match("runs/sample/*")] == []
    lost = sorted(tally.seconds_lost) or [0.0]
    record(
        f"{name}, {'/'.join(number.name for number in signals)}",
        {
            "kills": tally.kills,
            "kills_in_training": tally.in_training,
            "kills_while_a_file_was_written": tally.in_writing,
            "runs_finished_bit_for_bit": tally.runs,
            "seconds_lost_median": round(lost[len(lost) // 2], 3),
            "seconds_lost_most": round(lost[-1], 3),
        },
    )
