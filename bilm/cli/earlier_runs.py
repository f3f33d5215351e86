"""What to do about an unfinished run, and about files that a new run would replace."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bilm.cli.options import ResumeOptions
from bilm.runtime.errors import UserError
from bilm.runtime.paths import display_path
from bilm.runtime.provenance import first_difference


def decide_action(unfinished: Path, options: ResumeOptions, finished: bool, warning: str | None = None) -> str:
    """Return "start", "resume" or "skip", by the options or by the user's answer at a terminal.

    unfinished: the checkpoint of an earlier run, or the folder of a study; if the new run starts over, its caller
    deletes it. finished: whether the results of a run with these settings exist; the run is then skipped with --resume
    and repeated without. warning: which other file would be replaced, if any.
    Raises UserError if nobody can be asked: neither resuming nor starting over is a safe guess.
    """
    if unfinished.exists():
        return _about_unfinished(unfinished, options)
    if finished:
        return "skip" if options.resume else "start"
    confirm_replacement(warning, options)
    return "start"


def confirm_replacement(warning: str | None, options: ResumeOptions) -> None:
    """Return if there is nothing to warn of, with --restart, or if the user agrees. Raises UserError otherwise."""
    if warning and not options.restart:
        answer = _ask(f"{warning} Replace it [r], or leave everything as it is [Enter]? ")
        if answer is None or not answer.startswith("r"):
            raise UserError(warning)


def _about_unfinished(unfinished: Path, options: ResumeOptions) -> str:
    if options.resume or options.restart:
        return "resume" if options.resume else "start"
    fact = f"there is an unfinished run in {display_path(unfinished.parent)}"
    answer = _ask(f"{fact[0].upper()}{fact[1:]}. Resume it [Enter], or drop it and start over [n]? ")
    if answer is None:
        raise UserError(f"{fact}. Resume it: --resume. Drop it and start over: --restart.")
    return "start" if answer.startswith("n") else "resume"


def _ask(question: str) -> str | None:
    """The answer in lower case; None if nobody can be asked.

    A notebook runs a command ("!python ELMO.py") on a terminal that nobody can type into. Where the output goes to a
    file, nobody sees the question.
    """
    streams = sys.stdin, sys.stdout
    in_notebook = "JPY_PARENT_PID" in os.environ
    if in_notebook or "RANK" in os.environ or not all(stream and stream.isatty() for stream in streams):
        return None
    try:
        return input(question).strip().lower()
    except EOFError:
        return None


def replacement_warning(
    weights: Path, read: Callable[[], dict[str, Any] | None], settings: dict[str, Any], advice: str = ""
) -> str | None:
    """The warning of decide_action if a finished run with other settings, or a file of no use here, would be replaced;
    otherwise None.

    read: returns the settings of the run that wrote `weights`, None if there is none, or raises UserError if they
    cannot be read or if the file is of use elsewhere; advice: another way to use that file. Raises UserError if no file
    can be written there.
    """
    _require_place_for(weights)
    try:
        saved = read()
    except UserError as error:
        return unusable_warning(weights, error)
    key = first_difference(saved, settings) if saved is not None else None
    if saved is None or key is None:
        return None
    difference = f"{key}: {saved.get(key)}, now {settings.get(key)}"
    if key in ("corpus", "unlabelled"):
        difference = f"it was trained on other {'rows' if key == 'corpus' else 'unlabelled texts'}"
    return (
        f"{display_path(weights)} was written by a finished run with other settings ({difference}). "
        f"Replace it: --restart. {advice}Keep it and write elsewhere: --output FOLDER."
    )


def unusable_warning(weights: Path, error: UserError) -> str:
    """The warning of decide_action if a file that is of no use here would be replaced.

    It may be of a newer version, or belong to another language model. error: of reading it. Raises UserError if no file
    can be written there.
    """
    _require_place_for(weights)
    reason = str(error).removeprefix(f"{weights} ")
    return (
        f"{display_path(weights)} exists, but {reason} Replace it: --restart. Keep it: move it away, or write "
        "elsewhere: --output FOLDER."
    )


def _require_place_for(weights: Path) -> None:
    """Raise UserError before hours of training, not after them, if a folder or a device has this name."""
    if weights.exists() and not weights.is_file():
        raise UserError(
            f"{display_path(weights)} is a folder or a device, where a file is to be written. Move it away, or write "
            "elsewhere: --output FOLDER."
        )
