"""The tools as a user calls them: a process each, with trained weights, from its start to its end."""

import csv
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import figure, timed
from bilm.inference.elmo import ELMo
from bilm.inference.text_classifier import TextClassifier
from bilm.runtime.errors import UserError
from bilm.runtime.paths import ROOT
from bilm.runtime.terminal import progress
from bilm.text.corpus import Source

_CPU = torch.device("cpu")
# Texts that are timed one by one.
_SINGLE = 200
TEXT = "Stocks fell after the bank cut its forecast."


def measure(bilm: Path, source: Source, repeats: int) -> dict[str, Any]:
    """from_shell_seconds: of one text by each tool; whole_file_seconds, documents_per_second: of all of `source`.

    in_process_ms: of one text, once the weights are loaded. Each as a figure (measure.py). Raises UserError when a tool
    does.
    """
    classifier, elmo = TextClassifier.load(bilm), ELMo.load(bilm)
    texts = [text for _, text in source.rows()]
    ours = ["--bilm", str(bilm.resolve())]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text",), *((text,) for text in texts)])
        given = ["--input", str(path), "--column", "text", *ours]
        index = ["--index", str(Path(folder) / "index")]
        whole = {
            "predict": ["-m", "bilm", "predict", "--format", "csv", *given],
            "vectors": ["-m", "bilm", "vectors", "--output", f"{folder}/x.hdf5", *given],
            "vectors_per_text": ["-m", "bilm", "vectors", "--per", "text", "--output", f"{folder}/x.npz", *given],
            "neighbours_build": ["-m", "bilm", "neighbours", "--build", *index, *given],
        }
        one = {
            "predict": ["-m", "bilm", "predict", TEXT, *ours],
            "predict_explain": ["-m", "bilm", "predict", "--explain", TEXT, *ours],
            "vectors": ["-m", "bilm", "vectors", TEXT, "--output", f"{folder}/y.npz", *ours],
            "neighbours": ["-m", "bilm", "neighbours", "--word", "bank", TEXT, *index, *ours],
            "lm_score": ["-m", "bilm", "lm", TEXT, *ours],
            "lm_fill": ["-m", "bilm", "lm", "The ___ of the company resigned.", *ours],
        }
        commands = whole | {f"one {name}": command for name, command in one.items()}
        seconds = {
            name: timed(partial(_run, command, folder), _CPU, repeats)
            for name, command in progress(commands.items(), unit="tool", label="tools")
        }
    uses: dict[str, Callable[[str], Any]] = {
        "classify": lambda text: classifier.predict([text]),
        "vectors": lambda text: elmo.sentence_vectors([text]),
        "explain": classifier.explain,
    }
    return {
        "what": "tools called as a user calls them, a process each; weights: what made them, see there",
        "documents": len(texts),
        "weights": {"hash": elmo.hash, "corpus": elmo.info["corpus"]},
        "rows_trained": elmo.info["rows_trained"],
        "whole_file_seconds": {name: figure(seconds[name]) for name in whole},
        "documents_per_second": {name: figure([len(texts) / s for s in seconds[name]]) for name in whole},
        "from_shell_seconds": {name: figure(seconds[f"one {name}"]) for name in one},
        "in_process_ms": {name: figure(_one_by_one(use, texts[:_SINGLE])) for name, use in uses.items()},
    }


def _one_by_one(use: Callable[[str], Any], texts: Sequence[str]) -> list[float]:
    """Milliseconds of each."""
    use(texts[0])  # warms up
    remaining = iter(texts)
    return [1e3 * seconds for seconds in timed(lambda: use(next(remaining)), _CPU, len(texts))]


def _run(command: list[str], folder: str) -> None:
    with (Path(folder) / "said.txt").open("w+") as said:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=said, stderr=said, check=False)  # noqa: S603
        if done.returncode:
            said.seek(0)
            raise UserError(f"{command[0]} ended with status {done.returncode}: {said.read()[-300:].strip()}")
