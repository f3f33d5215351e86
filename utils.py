"""The scripts' one import: what ELMO.py, classification.py and evaluate.py share, from bilm.cli and bilm.runtime."""

from bilm.cli.options import EncoderOptions, ResumeOptions, RunOptions
from bilm.cli.run import Runtime, decide_action, replacement_warning, start
from bilm.runtime.process import run_script
from bilm.runtime.provenance import run_settings, run_stamp

__all__ = [
    "EncoderOptions",
    "ResumeOptions",
    "RunOptions",
    "Runtime",
    "decide_action",
    "replacement_warning",
    "run_script",
    "run_settings",
    "run_stamp",
    "start",
]
