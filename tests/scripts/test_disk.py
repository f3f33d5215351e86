"""Full and read-only disks: small file systems in memory, where the user is permitted to mount them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE, TINY, run_script

from bilm.checkpoints import serialization


@pytest.fixture
def disk(tmp_path):
    """disk(megabytes) mounts a file system of this size and returns its folder."""
    mounted: list[Path] = []

    def mount(megabytes: float) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 1024)}k", "tmpfs", folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command")
        if done.returncode:
            pytest.skip(f"a file system in memory cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


def refused(run, pattern: str) -> None:
    assert run.code == 2 and re.fullmatch(r"\w+\.py: error: [^\n]*\n", run.err) and re.search(pattern, run.err), run.err


def leftovers(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.suffix in (".tmp", ".lock")]


@pytest.mark.slow
def test_a_disk_that_fills_up_in_a_run(disk, tmp_path):
    """The earlier checkpoint is unchanged; with free space, the resumed run gives the weights of an undisturbed run."""
    folder = disk(8)
    arguments = ["ELMO.py", "--data", SAMPLE, *TINY, "--epochs", 3]
    assert run_script(*arguments, "--output", tmp_path / "roomy").code == 0
    unfinished = folder / "runs/sample/bilm.pt"
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments), "--output", folder, "--checkpoint-seconds", "0"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    while not unfinished.exists() and process.poll() is None:
        pass
    with open(folder / "filler", "wb", buffering=0) as filler:  # until the disk, or a write of the run, is refused
        while process.poll() is None:
            try:
                filler.write(bytes(1 << 16))
            except OSError:
                process.wait(timeout=60)
    error = process.stderr.read() if process.stderr else ""
    process.communicate()
    assert process.returncode == 2 and "No space left on device. The earlier file, if any, is unchanged." in error, (
        error
    )
    step = serialization.load(unfinished, "training")["state"]["step"]
    assert step >= 1 and leftovers(folder) == []

    repeated = run_script(*arguments, "--output", folder, "--resume")
    refused(repeated, "No space left on device|cannot be written")
    assert serialization.load(unfinished, "training")["state"]["step"] >= step and leftovers(folder) == []
    (folder / "filler").unlink()
    resumed = run_script(*arguments, "--output", folder, "--resume")
    assert resumed.code == 0, resumed.err
    one, two = (serialization.load(o / "models/sample/bilstm.pt", "bilm")["id"] for o in (folder, tmp_path / "roomy"))
    assert one == two


def test_an_evaluation_on_a_full_disk_keeps_the_older_figures(disk, trained):
    folder, (output, _) = disk(8), trained
    subprocess.run(["cp", "-r", f"{output}/.", folder], check=True)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    subprocess.run(["dd", "if=/dev/zero", f"of={folder}/filler"], capture_output=True, check=False)
    run = run_script("evaluate.py", "--data", SAMPLE, "--output", folder)
    refused(run, "No space left on device")
    (folder / "filler").unlink()
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("script", ["ELMO.py", "classification.py", "evaluate.py"])
def test_a_folder_that_cannot_be_written_to(disk, trained, script):
    """The error comes before any training or evaluation."""
    folder, (output, _) = disk(8), trained
    subprocess.run(["cp", "-r", f"{output}/.", folder], check=True)
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    run = run_script(script, "--data", SAMPLE, "--output", folder, timeout=30)
    refused(run, r"cannot be written to: .* Option: --output")
    assert "epoch" not in run.out and "===" not in run.out


@pytest.mark.parametrize("script", ["ELMO.py", "evaluate.py"])
def test_standard_output_on_a_full_disk(trained, tmp_path, script):
    output, _ = trained
    subprocess.run(["cp", "-r", f"{output}/.", tmp_path], check=True)
    command = [sys.executable, script, "--data", SAMPLE, "--output", tmp_path, *(TINY if script == "ELMO.py" else [])]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            list(map(str, command)), cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
