"""Provenance: the record in every result file of how it was computed, and the settings that identify a run."""

import dataclasses
import datetime
import functools
import platform
import shlex
import subprocess
import sys
from typing import Any

from bilm.runtime.device import hardware, peak_memory
from bilm.runtime.paths import checkout
from bilm.runtime.process import command_line


def run_settings(options: Any, runtime: Any, *groups: Any, **inputs: str) -> dict[str, Any]:
    """Return all settings that the weights of a run depend on: with equal settings, runs on one machine give the same
    weights. The device and the number of processes may change when a run is resumed; they change the last digits, and
    with several processes the dropout.

    groups: dataclasses of settings; inputs: hashes of the files that the run reads. fit() adds "threads" where
    gradients depend on the number of threads.
    """
    settings: dict[str, Any] = {"seed": options.seed, "limit": options.limit, "precision": runtime.precision, **inputs}
    for group in groups:
        settings.update(dataclasses.asdict(group))
    settings.pop("checkpoint_seconds", None)
    return settings


def first_difference(saved: dict[str, Any], current: dict[str, Any]) -> str | None:
    """Return the first setting, by name, in which a saved run differs from the current one; None for the same run.

    The number of threads does not count: a resumed run uses the number that it was started with.
    """
    keys = (saved | current).keys() - {"threads"}
    return next((key for key in sorted(keys) if saved.get(key) != current.get(key)), None)


def run_stamp(options: Any, runtime: Any) -> dict[str, Any]:
    """Return the provenance of a result: seed, command, commit, hardware, versions, date, peak memory (of the GPU)."""
    import torch

    return {
        "seed": options.seed,
        "command": shlex.join([*command_line().split(), *sys.argv[1:]]),
        "commit": _commit(),
        "hardware": hardware(runtime.device),
        "precision": runtime.precision,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "processes": runtime.processes,
        "peak_memory_mb": round(peak_memory(runtime.device) / 2**20),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _commit() -> str:
    """Return the commit of this code, with "+" when files were changed since; "unknown" outside a git checkout."""
    folder = checkout()
    if folder is None:
        return "unknown"
    try:
        run = functools.partial(subprocess.run, cwd=folder, capture_output=True, text=True, check=True)
        # A copy without .git may lie within another repository.
        if run(["git", "rev-parse", "--show-cdup"]).stdout.strip():
            return "unknown"
        head = run(["git", "rev-parse", "--short=12", "HEAD"])
        changed = run(["git", "status", "--porcelain", "--", "*.py"])
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
