"""Use of the models: many documents, one at a time, from a CSV to its metrics; start-up; the commands of `bilm`."""

import csv
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.data import descriptions, encoded_file, load_vocabulary
from benchmarks.measure import figure, four_digits, rate_figure, timed
from benchmarks.parts import Job
from benchmarks.training import SHAPE, classifier_on
from bilm.checkpoints.model_format import load_bilm, load_classifier, save_bilm, save_classifier
from bilm.cli.start import Runtime
from bilm.evaluation.scoring import class_probabilities, mean_layers
from bilm.inference.elmo import ELMo
from bilm.inference.text_classifier import TextClassifier
from bilm.metrics import classification_figures
from bilm.modules.language_model import BiLM
from bilm.runtime.device import autocast
from bilm.runtime.errors import UserError
from bilm.runtime.paths import ROOT
from bilm.runtime.terminal import progress
from bilm.text.ag_news import CLASS_NAMES
from bilm.text.batching import Batch, evaluation_batch_tokens, iterate_batches
from bilm.text.corpus import Source
from bilm.text.readers import read_texts
from bilm.text.vocabulary import EncodedTexts, Vocabulary
from bilm.training.classification import predict

SCRIPTS = ("ELMO.py", "classification.py", "evaluate.py")
_SINGLE = 200  # texts that are timed one by one
TEXT = "Stocks fell after the bank cut its forecast."

# --- in memory ------------------------------------------------------------------------------------------------------


def measure(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Return documents per second, milliseconds of one document, and seconds from test.csv to its metrics."""
    pipeline = Pipeline(load_vocabulary(job.folder), runtime)
    texts, _ = descriptions(job.test, job.run.limit)
    figures: dict[str, Any] = {"documents": len(texts)}
    uses: dict[str, Callable[[Sequence[str]], Any]] = {"classify": pipeline.classes, "vectors": pipeline.vectors}
    for name, use in progress(uses.items(), unit="use", label="inference"):
        use(texts[:256])  # warms up
        figures[f"{name}_documents_per_second"] = rate_figure(len(texts), timed(partial(use, texts), job.sizes.repeats))
    one_by_one = iter(texts)
    seconds = timed(lambda: pipeline.classes([next(one_by_one)]), min(len(texts), job.sizes.single_documents))
    p95 = four_digits(1e3 * float(np.percentile(seconds, 95)))
    figures["single_document_ms"] = {**figure([1e3 * s for s in seconds]), "p95": p95}
    figures["csv_to_metrics_seconds"] = figure(timed(partial(pipeline.metrics, job), job.sizes.slow_repeats))
    return figures


class Pipeline:
    """A language model and a classifier in memory, with random weights."""

    def __init__(self, vocabulary: Vocabulary, runtime: Runtime):
        self.encoder = BiLM(SHAPE, len(vocabulary))
        self.model = classifier_on(self.encoder).to(runtime.device).eval()
        self.vocabulary = vocabulary
        self.runtime = runtime

    @torch.no_grad()
    def classes(self, texts: Sequence[str]) -> np.ndarray:
        """Return the class of each text, int64 (N,)."""
        with self.runtime.autocast():
            batches = _batches(self.vocabulary.encode(texts), self.runtime)
            return predict(self.model, batches, len(texts), self.runtime.device)

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return the mean of each layer over the tokens of a text: fp32 (N, J, E)."""
        batches = _batches(self.vocabulary.encode(texts), self.runtime)
        return mean_layers(self.encoder, batches, len(texts), self.runtime.device, self.runtime.autocast)

    def metrics(self, job: Job) -> dict[str, Any]:
        """Read test.csv and compute the metrics of the classifier, in fp32, as evaluate.py does."""
        corpus = encoded_file(job.test, job.run.limit, job.folder, self.vocabulary)
        where = (len(corpus), self.runtime.device, partial(autocast, self.runtime.device, "fp32"))
        probabilities = class_probabilities({"": self.model}, _batches(corpus.texts, self.runtime), *where)[""]
        return classification_figures(corpus.labels, probabilities.argmax(1), list(CLASS_NAMES))


def _batches(texts: EncodedTexts, runtime: Runtime) -> Iterator[Batch]:
    return iterate_batches(texts, np.arange(len(texts)), evaluation_batch_tokens(runtime.device))


# --- start-up -------------------------------------------------------------------------------------------------------


def measure_startup(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Return the seconds of `--help` and of loading the models; rows of train.csv read and encoded per second."""
    repeats, folder = job.sizes.repeats, job.folder
    scripts = progress(SCRIPTS, unit="script", label="start-up")
    help_seconds = {
        script.removesuffix(".py"): figure(timed(partial(_run, script, "--help"), repeats)) for script in scripts
    }
    vocabulary = load_vocabulary(folder)
    encoder = BiLM(SHAPE, len(vocabulary))
    info = {"rows_trained": 0, "validation_perplexity": 0.0, "settings": {}}
    save_bilm(folder / "bilstm.pt", encoder, vocabulary, info)
    pretrained = load_bilm(folder / "bilstm.pt")
    info = {"validation_accuracy": 0.0, "settings": {}, "combination": {}, "seed": 0}
    save_classifier(folder / "classifier.pt", classifier_on(encoder), pretrained, list(CLASS_NAMES), info)
    read = partial(encoded_file, job.train, job.run.limit, folder, vocabulary)
    rows = len(read())
    return {
        "help_seconds": help_seconds,
        "load_bilm_seconds": figure(timed(partial(load_bilm, folder / "bilstm.pt"), repeats)),
        "load_classifier_seconds": figure(
            timed(partial(load_classifier, folder / "classifier.pt", pretrained), repeats)
        ),
        "rows_read_per_second": rate_figure(rows, timed(read, job.sizes.slow_repeats)),
    }


# --- commands -------------------------------------------------------------------------------------------------------


def commands_for_files(folder: Path) -> dict[str, list[str]]:
    """The commands that read texts.csv in `folder`, and write beside it."""
    texts = ["--input", f"{folder}/texts.csv", "--column", "text"]
    return {
        "predict": ["predict", "--format", "csv", *texts],
        "vectors": ["vectors", "--output", f"{folder}/x.hdf5", *texts],
        "vectors_per_text": ["vectors", "--per", "text", "--output", f"{folder}/x.npz", *texts],
        "neighbours_build": ["neighbours", "--build", "--index", f"{folder}/index", *texts],
    }


def commands_for_a_text(folder: Path) -> dict[str, list[str]]:
    """The commands for one text; `neighbours` uses the index that the commands for files have written."""
    return {
        "predict": ["predict", TEXT],
        "predict_explain": ["predict", "--explain", TEXT],
        "vectors": ["vectors", TEXT, "--output", f"{folder}/y.npz"],
        "neighbours": ["neighbours", "--word", "bank", TEXT, "--index", f"{folder}/index"],
        "lm_score": ["lm", TEXT],
        "lm_fill": ["lm", "The ___ of the company resigned."],
    }


def measure_commands(bilm: Path, source: Source, repeats: int) -> dict[str, Any]:
    """Measure commands as a user calls them: a process each, from start to end. Also measure the library.

    from_shell_seconds: one text, which is nearly all start-up; whole_file_seconds, documents_per_second: all texts.
    in_process_seconds: the library reads the same file and computes the same, with the weights loaded;
    share_of_in_process: its seconds over those of the command without start-up. in_process_ms: one text when the
    weights are loaded. Raises UserError when a command fails.
    """
    classifier, elmo = TextClassifier.load(bilm), ELMo.load(bilm)
    texts = [text for _, text in source.rows()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "texts.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text",), *((text,) for text in texts)])
        file_seconds, single_seconds = (
            {
                name: timed(partial(_run, "-m", "bilm", *command, "--bilm", str(bilm.resolve())), repeats)
                for name, command in progress(commands.items(), unit="command", label="tools")
            }
            for commands in (commands_for_files(folder), commands_for_a_text(folder))
        )
        read = partial(read_texts, f"{folder}/texts.csv", "text")
        library: dict[str, Callable[[], Any]] = {
            "predict": lambda: classifier.predict_proba(read()),
            "vectors": lambda: elmo.embed(read()),
            "vectors_per_text": lambda: elmo.sentence_vectors(read()),
        }
        library_seconds = {name: timed(use, repeats) for name, use in library.items()}
    uses: dict[str, Callable[[str], Any]] = {
        "classify": lambda text: classifier.predict([text]),
        "vectors": lambda text: elmo.sentence_vectors([text]),
        "explain": classifier.explain,
    }
    return {
        "what": "commands called as a user calls them, a process each; weights: hash and corpus of the language model",
        "documents": len(texts),
        "weights": {"hash": elmo.hash, "corpus": elmo.info["corpus"]},
        "rows_trained": elmo.info["rows_trained"],
        "whole_file_seconds": {name: figure(seconds) for name, seconds in file_seconds.items()},
        "documents_per_second": {name: rate_figure(len(texts), seconds) for name, seconds in file_seconds.items()},
        "in_process_seconds": {name: figure(seconds) for name, seconds in library_seconds.items()},
        "share_of_in_process": {
            name: four_digits(
                median(seconds) / (median(file_seconds[name]) - median(single_seconds[name.removesuffix("_per_text")]))
            )
            for name, seconds in library_seconds.items()
        },
        "from_shell_seconds": {name: figure(seconds) for name, seconds in single_seconds.items()},
        "in_process_ms": {name: figure(_milliseconds(use, texts[:_SINGLE])) for name, use in uses.items()},
    }


def _milliseconds(use: Callable[[str], Any], texts: list[str]) -> list[float]:
    """Return the milliseconds of `use` for each text."""
    use(texts[0])  # warms up
    remaining = iter(texts)
    return [1e3 * seconds for seconds in timed(lambda: use(next(remaining)), len(texts))]


def _run(*arguments: str) -> None:
    """Run Python in the repository's folder. Raises UserError when the command fails."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise UserError(f"{' '.join(arguments)} ended with status {done.returncode}: {done.stderr[-300:].strip()}")
