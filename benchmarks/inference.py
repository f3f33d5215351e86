"""Using the models: many documents at once, one at a time, and from a CSV to its metrics."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.data import descriptions, encoded, encoded_file, load_vocabulary
from benchmarks.measure import figure, four_digits, timed
from benchmarks.models import SHAPE, classified
from benchmarks.parts import Job
from bilm.cli.run import Runtime
from bilm.evaluation.scoring import class_probabilities, classification_figures, mean_layers
from bilm.modules.language_model import BiLM
from bilm.runtime.terminal import progress
from bilm.text.ag_news import CLASS_NAMES
from bilm.text.batching import Batch, iterate_batches
from bilm.text.vocabulary import EncodedTexts, Vocabulary
from bilm.training.classification import predict
from evaluate import EvaluationOptions

BATCH_TOKENS = EvaluationOptions().batch_tokens


def measure(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Documents per second, tokenised too; milliseconds for a single one; seconds from test.csv to its metrics."""
    user = User(load_vocabulary(job.folder), runtime)
    texts, _ = descriptions(job.test, job.run.limit)
    found: dict[str, Any] = {"documents": len(texts)}
    uses: dict[str, Callable[[Sequence[str]], Any]] = {"classify": user.classes, "vectors": user.vectors}
    for name, use in progress(uses.items(), unit="use", label="inference"):
        use(texts[:256])  # warms up
        seconds = timed(partial(use, texts), runtime.device, job.sizes.repeats)
        found[f"{name}_documents_per_second"] = figure([len(texts) / s for s in seconds])
    one_by_one = iter(texts)
    seconds = timed(
        lambda: user.classes([next(one_by_one)]), runtime.device, min(len(texts), job.sizes.single_documents)
    )
    single = [1e3 * s for s in seconds]
    found["single_document_ms"] = {**figure(single), "p95": four_digits(float(np.percentile(single, 95)))}
    found["csv_to_metrics_seconds"] = figure(
        timed(partial(user.metrics_of, job), runtime.device, job.sizes.slow_repeats)
    )
    return found


class User:
    """Somebody with a language model and a classifier in memory. Neither is trained, which makes them no faster."""

    def __init__(self, vocabulary: Vocabulary, runtime: Runtime):
        self.encoder = BiLM(SHAPE, len(vocabulary))
        self.model = classified(self.encoder).to(runtime.device).eval()
        self.vocabulary = vocabulary
        self.runtime = runtime

    def classes(self, texts: Sequence[str]) -> np.ndarray:
        """int64 (N,)."""
        known = encoded(texts, self.vocabulary)
        with torch.no_grad(), self.runtime.autocast():
            return predict(self.model, _batches(known), len(texts), self.runtime.device)

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """The mean of each layer over a text's tokens: fp32 (N, J, E)."""
        batches = _batches(encoded(texts, self.vocabulary))
        return mean_layers(self.encoder, batches, len(texts), self.runtime.device, self.runtime.autocast)

    def metrics_of(self, job: Job) -> dict[str, dict[str, Any]]:
        """All that evaluate.py says of a classifier on the test rows, from the file on."""
        read = encoded_file(job.test, job.run.limit, job.folder, self.vocabulary)
        where = (self.runtime.device, nullcontext)  # in fp32, as evaluate.py does
        found = class_probabilities({"trainable": self.model}, _batches(read.texts), len(read.texts), *where)
        return {
            name: classification_figures(read.labels, probabilities.argmax(1), list(CLASS_NAMES))
            for name, probabilities in found.items()
        }


def _batches(texts: EncodedTexts) -> Iterator[Batch]:
    return iterate_batches(texts, np.arange(len(texts)), BATCH_TOKENS)
