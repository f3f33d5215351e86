"""What ELMO.py, classification.py and evaluate.py share: options, runs and their folders, messages."""

from bilm.cli.options import EncoderOptions, ResumeOptions, RunOptions, TensorBoardOptions
from bilm.cli.run import (
    Run,
    confirm_replacement,
    decide_action,
    open_run,
    replacement_warning,
    truncation_note,
    unusable_warning,
)
from bilm.runtime.process import run_script

__all__ = [
    "EncoderOptions",
    "ResumeOptions",
    "Run",
    "RunOptions",
    "TensorBoardOptions",
    "confirm_replacement",
    "decide_action",
    "open_run",
    "replacement_warning",
    "run_script",
    "truncation_note",
    "unusable_warning",
]
