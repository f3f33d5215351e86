"""Files of many rows: time, memory and output of `predict` and of `vectors`, a process each, as a user calls them."""

import csv
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import four_digits, now, timed
from benchmarks.parts import SECONDS_BETWEEN_SAMPLES, status_mb
from bilm.checkpoints.model_format import load_bilm
from bilm.inference.elmo import ELMo
from bilm.inference.text_classifier import TextClassifier
from bilm.runtime.errors import UserError
from bilm.runtime.paths import ROOT
from bilm.runtime.terminal import progress
from bilm.text.readers import read_texts

# Rows by which the rate of the library is measured: all of them are in memory, with their vectors.
IN_PROCESS_ROWS = 10_000


def measure(bilm: Path, texts: Sequence[str], rows: int, precision: str, folder: Path) -> dict[str, Any]:
    """Repeat `texts` to a CSV of this many rows in `folder`; return the figures of each command, measured once.

    startup_seconds: the command on a file of one row. in_process_documents_per_second: the library reads the first
    IN_PROCESS_ROWS and computes the same, after it has done so once; share_of_in_process: the rate of the command
    without start-up over that.

    Raises UserError when a command fails, or when its answers are not those of all rows in their order.
    """
    tokenizer = load_bilm(bilm).vocabulary.tokenizer
    words = int(np.resize(np.roll([len(tokenizer(f"0 {text}")) for text in texts], -1), rows).sum())
    with (folder / "texts.csv").open("w", encoding="utf-8", newline="") as file:
        numbered = ((f"{i} {texts[i % len(texts)]}",) for i in range(1, rows + 1))
        csv.writer(file).writerows(chain([("text",)], numbered))
    (folder / "one.csv").write_text("text\none\n", encoding="utf-8")
    common = ["--column", "text", "--bilm", str(bilm.resolve()), "--precision", precision]
    outputs = {"predict": folder / "predict.csv", "vectors": folder / "vectors.parquet"}
    commands = {
        "predict": ["predict", "--format", "csv"],
        "vectors": ["vectors", "--per", "text", "--dtype", "float16", "--output", str(outputs["vectors"])],
    }
    rates = _in_process(bilm, precision, folder / "texts.csv", min(rows, IN_PROCESS_ROWS))
    figures = {}
    for name, command in progress(commands.items(), unit="command", label="bulk"):
        printed = outputs["predict"] if name == "predict" else folder / "printed"
        startup, _ = _run([*command, *common, "--input", f"{folder}/one.csv"], printed)
        seconds, peak = _run([*command, *common, "--input", f"{folder}/texts.csv"], printed)
        count = 0
        for count, text in enumerate(read_texts(str(outputs[name]), "text"), start=1):
            if not text.startswith(f"{count} "):
                raise UserError(f"{name}: row {count} of its output is {text!r:.60}, not that row of its input.")
        if count != rows:
            raise UserError(f"{name} has {count} answers to {rows} texts.")
        figures[name] = {
            "seconds": four_digits(seconds),
            "startup_seconds": four_digits(startup),
            "documents_per_second": four_digits(rows / seconds),
            "words_per_second": four_digits(words / seconds),
            "in_process_documents_per_second": four_digits(rates[name]),
            "share_of_in_process": four_digits(rows / (seconds - startup) / rates[name]),
            "peak_memory_mb": peak,
            "output_mb": four_digits(outputs[name].stat().st_size / 1e6),
        }
    return {"documents": rows, "words": words, "commands": figures}


def _in_process(bilm: Path, precision: str, file: Path, rows: int) -> dict[str, float]:
    """Return the documents per second of the library on the first `rows` of the file, by command."""
    classifier, elmo = TextClassifier.load(bilm, precision=precision), ELMo.load(bilm, precision=precision)
    uses: dict[str, Callable[[], Any]] = {
        "predict": lambda: classifier.predict_proba(islice(read_texts(str(file), "text"), rows)),
        "vectors": lambda: elmo.sentence_vectors(islice(read_texts(str(file), "text"), rows)),
    }
    # oneDNN compiles code for each length of texts when it first sees it.
    return {name: rows / timed(use, 2)[1] for name, use in progress(uses.items(), unit="use", label="in process")}


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
