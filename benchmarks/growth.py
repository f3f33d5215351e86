"""Time per token, memory and disk for corpora of different sizes, with the same vocabulary.

The larger corpora consist of the documents of the corpus, repeated, each time with its words in a different order and
one in ten of them replaced by a word from anywhere in the corpus: no two documents are alike, but their lengths and
words have the same distribution.
"""

import csv
import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import descriptions, load_vocabulary, save_vocabulary, training_data
from benchmarks.measure import figure, four_digits, now, timed
from benchmarks.parts import Job
from benchmarks.training import pretraining
from bilm.cli.start import Runtime
from bilm.runtime.terminal import progress

REPLACED = 10  # one in this many words


def prepare(job: Job, _: Runtime) -> dict[str, Any]:
    """Write the vocabulary and the larger corpora to the job's folder; return the sizes of the corpus."""
    data = training_data(job.train, job.run.limit, job.folder)
    save_vocabulary(data.vocabulary, job.folder)
    texts, labels = descriptions(job.train, job.run.limit)
    words = [data.vocabulary.tokenizer(text) for text in texts]
    for count in progress(job.sizes.growth, unit="file", label="larger corpora"):
        write_csv(_csv_file(job.folder, count), words, labels, count, job.run.seed)
    return {
        "rows": len(data.texts),
        "rows_trained": len(data.training_rows),
        "vocabulary": len(data.vocabulary),
        "tokens_per_document": four_digits(data.tokens_per_document),
    }


def _csv_file(folder: Path, documents: int) -> Path:
    return folder / f"documents_{documents}.csv"


def write_csv(path: Path, words: list[list[str]], labels: np.ndarray, count: int, seed: int) -> None:
    """Write `count` documents in the form of AG News, made from the `words` and `labels` (N,) of N documents."""
    generator = np.random.default_rng(seed)
    # Without punctuation: a text must contain a letter or a digit.
    pool = [word for word in chain.from_iterable(words) if word.isalnum()]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        for i in range(count):
            original = words[i % len(words)]
            shuffled = [original[j] for j in generator.permutation(len(original)).tolist()]
            replaced = len(shuffled) // REPLACED
            shuffled[:replaced] = [pool[j] for j in generator.integers(len(pool), size=replaced).tolist()]
            writer.writerow((labels[i % len(words)] + 1, "", " ".join(shuffled)))


def measure(job: Job, runtime: Runtime, documents: int) -> dict[str, Any]:
    """Return for a corpus of `documents` the seconds per million tokens of reading and training, and the disk space."""
    path, folder = _csv_file(job.folder, documents), Path(tempfile.mkdtemp(dir=job.folder))
    vocabulary = load_vocabulary(job.folder)
    started = now()
    data = training_data(path, None, folder, vocabulary)
    encode_seconds = now() - started
    training = pretraining(data, job, runtime)
    rates = []
    for i in progress(range(job.sizes.repeats), unit="turn", label=f"growth to {documents:,} documents"):
        items = training.batches(job.sizes.warm_steps + i * job.sizes.growth_steps, job.sizes.growth_steps)
        rates.append(training.tokens_per_second(items))
    tokens = int((data.texts.lengths - 1).sum())
    return {
        "documents": documents,
        "tokens": tokens,
        "encode_seconds_per_million_tokens": figure([encode_seconds / tokens * 1e6]),
        "plan_seconds": figure(timed(lambda: training.task.plan(0), 1)),
        "train_seconds_per_million_tokens": figure([1e6 / rate for rate in rates]),
        "csv_mb": round(path.stat().st_size / 1e6, 1),
        "disk_mb": round(sum(file.stat().st_size for file in folder.glob("*/texts/*")) / 1e6, 1),
    }
