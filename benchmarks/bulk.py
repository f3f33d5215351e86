"""Files of many rows: time, memory and output of `predict` and of `vectors`, a process each, as a user calls them."""

import csv
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import four_digits, now
from benchmarks.parts import SECONDS_BETWEEN_SAMPLES, status_mb
from bilm.checkpoints.model_format import load_bilm
from bilm.runtime.errors import UserError
from bilm.runtime.paths import ROOT
from bilm.runtime.terminal import progress
from bilm.text.readers import read_texts


def measure(bilm: Path, texts: Sequence[str], rows: int, precision: str, folder: Path) -> dict[str, Any]:
    """Repeat `texts` to a CSV of this many rows in `folder`; return the figures of each command, measured once.

    Raises UserError when a command fails, or when its answers are not those of all rows in their order.
    """
    tokenizer = load_bilm(bilm).vocabulary.tokenizer
    words = int(np.resize(np.roll([len(tokenizer(f"0 {text}")) for text in texts], -1), rows).sum())
    with (folder / "texts.csv").open("w", encoding="utf-8", newline="") as file:
        numbered = ((f"{i} {texts[i % len(texts)]}",) for i in range(1, rows + 1))
        csv.writer(file).writerows(chain([("text",)], numbered))
    common = ["--input", f"{folder}/texts.csv", "--column", "text", "--bilm", str(bilm.resolve())]
    outputs = {"predict": folder / "predict.csv", "vectors": folder / "vectors.parquet"}
    commands = {
        "predict": ["predict", "--format", "csv"],
        "vectors": ["vectors", "--per", "text", "--dtype", "float16", "--output", str(outputs["vectors"])],
    }
    figures = {}
    for name, command in progress(commands.items(), unit="command", label="bulk"):
        printed = outputs["predict"] if name == "predict" else folder / "printed"
        seconds, peak = _run([*command, *common, "--precision", precision], printed)
        count = 0
        for count, text in enumerate(read_texts(str(outputs[name]), "text"), start=1):
            if not text.startswith(f"{count} "):
                raise UserError(f"{name}: row {count} of its output is {text!r:.60}, not that row of its input.")
        if count != rows:
            raise UserError(f"{name} has {count} answers to {rows} texts.")
        rates = {"documents_per_second": four_digits(rows / seconds), "words_per_second": four_digits(words / seconds)}
        sizes = {"peak_memory_mb": peak, "output_mb": four_digits(outputs[name].stat().st_size / 1e6)}
        figures[name] = {"seconds": four_digits(seconds), **rates, **sizes}
    return {"documents": rows, "words": words, "commands": figures}


def _run(arguments: Sequence[str], output: Path) -> tuple[float, int | None]:
    """Run `python -m bilm` with its standard output in a file; return seconds and peak resident memory in MB.

    The peak is what the kernel last said before the process ended; None without /proc.
    """
    started, peak = now(), 0.0
    with output.open("wb") as file, output.with_suffix(".err").open("w+b") as errors:
        command = [sys.executable, "-m", "bilm", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=errors)  # noqa: S603
        while process.poll() is None:
            peak = max(peak, status_mb(process.pid).get("VmHWM", 0.0))
            time.sleep(SECONDS_BETWEEN_SAMPLES)
        seconds = now() - started
        if process.returncode:
            errors.seek(0)
            raise UserError(f"python -m bilm {arguments[0]} failed: {errors.read().decode().strip()[-200:]}")
    return seconds, round(peak) or None
