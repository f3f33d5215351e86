"""Who ran what: the stamp that every result file carries, and the settings that tell two runs apart."""

import dataclasses
import datetime
import functools
import platform
import shlex
import subprocess
import sys
from typing import Any

from bilm.runtime.device import hardware, peak_memory
from bilm.runtime.paths import ROOT
from bilm.runtime.process import command_line


def run_settings(options: Any, runtime: Any, *groups: Any, **inputs: str) -> dict[str, Any]:
    """All that shapes the weights of a run: two runs that agree in it are one and the same, stopped or not.

    `inputs`: hashes of what the run reads. fit() adds "threads" where gradients
    depend on their number.
    """
    settings: dict[str, Any] = {"seed": options.seed, "limit": options.limit, "precision": runtime.precision, **inputs}
    for group in groups:
        settings.update(dataclasses.asdict(group))
    del settings["checkpoint_seconds"]
    return settings


def first_difference(saved: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """The first setting in which another run differs from the one that is wanted; None where it is the same run.

    The number of threads is no difference: a run that is resumed goes on with the one that it was begun with.
    """
    keys = (saved | wanted).keys() - {"threads"}
    return next((key for key in sorted(keys) if saved.get(key) != wanted.get(key)), None)


def run_stamp(options: Any, runtime: Any) -> dict[str, Any]:
    """What a number needs to be believed: seed, command, commit, hardware, versions, date; peak memory (the GPU's)."""
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
    """The commit this code is at, with "+" when it was changed since; "unknown" outside a git checkout."""
    try:
        run = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=True)
        head = run(["git", "rev-parse", "--short=12", "HEAD"])
        changed = run(["git", "status", "--porcelain", "--", "*.py"])
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
