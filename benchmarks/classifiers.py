"""Training of the classifiers, documents per second: the first epoch, which computes the layers, and later ones.

An epoch is its training steps, without the validation that follows them.
"""

import copy
from functools import partial
from typing import Any

from benchmarks.data import Data, load_vocabulary, training_data
from benchmarks.measure import figure, four_digits, now, rate_figure, timed
from benchmarks.parts import Job
from benchmarks.pretraining import DOCUMENTS
from benchmarks.training import SHAPE, Training, classifier_on
from bilm.cli.start import Runtime
from bilm.config import CLASSIFIER_FIT, FIXED_ENCODER_MODES, MODES
from bilm.modules.language_model import BiLM
from bilm.runtime.errors import UserError
from bilm.runtime.terminal import progress
from bilm.text.batching import evaluation_batch_tokens
from bilm.training.classification import ClassificationTask
from bilm.training.layer_cache import cache_layers
from classification import CacheOptions


def measure(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Return the figures of each mode. On a GPU layers are not cached, as in classification.py."""
    sizes = job.sizes
    vocabulary = load_vocabulary(job.folder)
    fixed_data, finetune_data = (
        training_data(job.train, min(rows, job.run.limit or rows), job.folder, vocabulary)
        for rows in (sizes.classifier_rows, sizes.finetune_rows)
    )
    encoder = BiLM(SHAPE, len(vocabulary)).to(runtime.device)
    figures = {}
    for mode in progress(MODES, unit="mode", label="classifiers"):
        is_cached = runtime.device.type == "cpu" and mode in FIXED_ENCODER_MODES
        data = fixed_data if mode in FIXED_ENCODER_MODES else finetune_data
        documents, train = len(data.training_rows), partial(_epoch_seconds, job, runtime, encoder, mode, data)
        runs = [train(is_cached, sizes.classifier_epochs) for _ in range(sizes.classifier_repeats)]
        figures[mode] = _mode_figures(runs, documents)
        if is_cached:
            uncached = [train(False, 1)[0] for _ in range(sizes.classifier_repeats)]
            figures[mode]["without_store_documents_per_second"] = rate_figure(documents, uncached)
    return figures


def _mode_figures(runs: list[list[float]], documents: int) -> dict[str, Any]:
    """Summarize the seconds of each epoch of each run; epochs of 120,000 documents are extrapolated."""
    first, later = [epochs[0] for epochs in runs], [seconds for epochs in runs for seconds in epochs[1:]]
    first_median, later_median = figure(first)["median"], figure(later)["median"]
    return {
        "documents": documents,
        "first_documents_per_second": rate_figure(documents, first),
        "later_documents_per_second": rate_figure(documents, later),
        "first_over_later": four_digits(first_median / later_median),
        "first_seconds_per_epoch_120000": round(first_median * DOCUMENTS / documents, 1),
        "later_seconds_per_epoch_120000": round(later_median * DOCUMENTS / documents, 1),
    }


def _epoch_seconds(
    job: Job, runtime: Runtime, encoder: BiLM, mode: str, data: Data, is_cached: bool, epochs: int
) -> list[float]:
    """Train a new classifier; return the seconds of each epoch. The first includes the computation of cached layers.

    Raises UserError when the disk has too little space for them.
    """
    started = now()
    cache = None
    if is_cached:
        limit, batch_tokens = CacheOptions().store_gb * 1e9, evaluation_batch_tokens(runtime.device)
        where = (batch_tokens, runtime.device, runtime.autocast)
        cache = cache_layers(encoder, data.texts, job.folder, limit, *where)
        if cache is None:
            raise UserError(f"the layers of {len(data.texts)} documents do not fit into {job.folder}")
    layer_seconds = now() - started
    encoder = encoder if mode in FIXED_ENCODER_MODES else copy.deepcopy(encoder)
    model = classifier_on(encoder, mode).to(runtime.device)
    rows = (data.training_rows, data.validation_rows, CLASSIFIER_FIT.batch_tokens)
    task = ClassificationTask(mode, data.texts, data.labels, *rows, job.run.seed, runtime.device, cache)
    rates = [(model.classifier, CLASSIFIER_FIT.learning_rate), *encoder.learning_rates(CLASSIFIER_FIT.learning_rate)]
    training, plans = Training(model, task, rates, runtime), map(task.plan, range(epochs))
    seconds = timed(lambda: training.seconds(next(plans)), epochs)
    if cache is not None:
        cache.close()
    return [layer_seconds + seconds[0], *seconds[1:]]
