"""Training the classifiers, documents per second: the first epoch, which computes the layers, and later ones.

The language model is not trained: what it has learned does not change what it costs. An epoch is its training steps,
without the validation that follows it.
"""

import copy
from pathlib import Path
from typing import Any

from benchmarks.data import Data, load_vocabulary, training_data
from benchmarks.measure import figure, four_digits, now
from benchmarks.models import SHAPE, classified
from benchmarks.parts import Job
from benchmarks.pretraining import DOCUMENTS
from benchmarks.training import FIT, Training
from bilm.cli.run import Runtime
from bilm.config import MODES
from bilm.modules.language_model import BiLM
from bilm.runtime.errors import UserError
from bilm.runtime.terminal import progress
from bilm.training.classification import ClassificationTask
from bilm.training.layer_cache import LayerCache, cache_layers
from bilm.training.optimizer import build_optimizer
from classification import StoreOptions
from evaluate import EvaluationOptions


def measure(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Figures per mode. A GPU keeps no layers (classification.py), so there every epoch computes them."""
    sizes = job.sizes
    vocabulary = load_vocabulary(job.folder)
    kept, finetuned = (
        training_data(job.train, job.at_most(rows), job.folder, vocabulary)
        for rows in (sizes.classifier_rows, sizes.finetune_rows)
    )
    encoder = BiLM(SHAPE, len(vocabulary)).to(runtime.device)
    stores = runtime.device.type == "cpu"
    figures = {}
    for mode in progress(MODES, unit="mode", label="classifiers"):
        data, stored = (finetuned, False) if mode == "finetune" else (kept, stores)
        repeats = range(sizes.classifier_repeats)
        runs = [_epochs(job, mode, encoder, data, stored, runtime, sizes.classifier_epochs) for _ in repeats]
        figures[mode] = _mode_figures(runs, len(data.training_rows))
        if stored:
            plain = [_epochs(job, mode, encoder, data, False, runtime, epochs=1)[0] for _ in repeats]
            rates = [len(data.training_rows) / seconds for seconds in plain]
            figures[mode]["without_store_documents_per_second"] = figure(rates)
    return figures


def _mode_figures(runs: list[list[float]], documents: int) -> dict[str, Any]:
    """From the seconds of each epoch of each run; the epochs of 120,000 documents are extrapolated."""
    first = figure([epochs[0] for epochs in runs])
    later = figure([seconds for epochs in runs for seconds in epochs[1:]])
    return {
        "documents": documents,
        "first_documents_per_second": figure([documents / epochs[0] for epochs in runs]),
        "later_documents_per_second": figure([documents / seconds for epochs in runs for seconds in epochs[1:]]),
        "first_over_later": four_digits(first["median"] / later["median"]),
        "first_seconds_per_epoch_120000": round(first["median"] * DOCUMENTS / documents, 1),
        "later_seconds_per_epoch_120000": round(later["median"] * DOCUMENTS / documents, 1),
    }


def _epochs(job: Job, mode: str, encoder: BiLM, data: Data, stored: bool, runtime: Runtime, epochs: int) -> list[float]:
    """Seconds of each epoch of a new classifier; where layers are stored, the first has the time for that in it."""
    started = now(runtime.device)
    cache = layers_of(encoder, data, job.folder, runtime) if stored else None
    for_layers = now(runtime.device) - started
    encoder = copy.deepcopy(encoder) if mode == "finetune" else encoder
    model = classified(encoder, mode).to(runtime.device)
    rows = (data.training_rows, data.validation_rows, FIT.batch_tokens)
    task = ClassificationTask(mode, data.texts, data.labels, *rows, job.run.seed, runtime.device, cache)
    rates = [(model.classifier, FIT.learning_rate), *encoder.learning_rates(FIT.learning_rate)]
    training = Training(model, task, build_optimizer(rates, FIT.weight_decay), runtime)
    seconds = []
    for epoch in range(epochs):
        started = now(runtime.device)
        training.seconds(task.plan(epoch))
        seconds.append(now(runtime.device) - started)
    if cache is not None:
        cache.close()
    return [for_layers + seconds[0], *seconds[1:]]


def layers_of(encoder: BiLM, data: Data, folder: Path, runtime: Runtime) -> LayerCache:
    """As classification.py stores them. Raises UserError when the disk has no room."""
    limit, batch_tokens = StoreOptions().store_gb * 1e9, EvaluationOptions().batch_tokens
    cache = cache_layers(encoder, data.texts, folder, limit, batch_tokens, runtime.device, runtime.autocast)
    if cache is None:
        raise UserError(f"the layers of {len(data.texts)} documents do not fit into {folder}")
    return cache
