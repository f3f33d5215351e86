"""What ELMO.py, classification.py and evaluate.py share: options, runs and their folders, messages."""

from bilm.cli.earlier_runs import confirm_replacement, decide_action, replacement_warning, unusable_warning
from bilm.cli.options import EncoderOptions, ResumeOptions, RunOptions, TensorBoardOptions
from bilm.cli.run import Run, open_run
from bilm.cli.truncation import truncation_note
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
