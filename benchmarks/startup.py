"""What passes before the work begins: --help, loading the models, reading the texts."""

import subprocess
import sys
from functools import partial
from typing import Any

from benchmarks.data import encoded_file, load_vocabulary
from benchmarks.measure import figure, timed
from benchmarks.models import SHAPE, classified
from benchmarks.parts import Job
from bilm.checkpoints.pretrained import load_bilm, load_classifier, save_bilm, save_classifier
from bilm.cli.run import Runtime
from bilm.modules.language_model import BiLM
from bilm.runtime.paths import ROOT
from bilm.runtime.terminal import progress
from bilm.text.ag_news import CLASS_NAMES

SCRIPTS = ("ELMO.py", "classification.py", "evaluate.py")


def measure(job: Job, runtime: Runtime) -> dict[str, Any]:
    """help_seconds: of each script, a process from its start to its end; load_*_seconds; rows of train.csv read and
    tokenised per second.
    """
    repeats = job.sizes.repeats
    shown = {}
    for script in progress(SCRIPTS, unit="script", label="start-up"):
        shown[script.removesuffix(".py")] = figure(timed(partial(_help, script), runtime.device, repeats))
    vocabulary = load_vocabulary(job.folder)
    bilm_path, classifier_path = job.folder / "bilstm.pt", job.folder / "classifier.pt"
    encoder = BiLM(SHAPE, len(vocabulary))
    save_bilm(bilm_path, encoder, vocabulary, {"rows_trained": 0, "validation_perplexity": 0.0, "settings": {}})
    pretrained = load_bilm(bilm_path)
    info = {"validation_accuracy": 0.0, "settings": {}, "combination": {}, "seed": 0}
    save_classifier(classifier_path, classified(encoder), pretrained.hash, list(CLASS_NAMES), info)
    read = partial(encoded_file, job.train, job.run.limit, job.folder, vocabulary)
    rows = len(read())
    return {
        "help_seconds": shown,
        "load_bilm_seconds": figure(timed(partial(load_bilm, bilm_path), runtime.device, repeats)),
        "load_classifier_seconds": figure(
            timed(partial(load_classifier, classifier_path, pretrained), runtime.device, repeats)
        ),
        "rows_read_per_second": figure(
            [rows / seconds for seconds in timed(read, runtime.device, job.sizes.slow_repeats)]
        ),
    }


def _help(script: str) -> None:
    subprocess.run([sys.executable, script, "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)  # noqa: S603 (ours)
