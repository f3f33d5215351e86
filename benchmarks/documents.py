"""What the other parts read: the corpus' vocabulary, and files of more documents than the corpus has.

Those documents are the corpus' own, over and over, each time with its words in another order and some of them exchanged
for words from anywhere in the corpus: no two are alike, yet their lengths and their words are distributed as they were.
"""

import csv
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import descriptions, save_vocabulary, training_data
from benchmarks.measure import four_digits
from benchmarks.parts import Job
from bilm.cli.run import Runtime
from bilm.runtime.terminal import progress

EXCHANGED = 10  # of so many words one comes from elsewhere


def prepare(job: Job, _: Runtime) -> dict[str, Any]:
    """Writes them into the job's folder; returns what the corpus is like."""
    data = training_data(job.train, job.run.limit, job.folder)
    save_vocabulary(data.vocabulary, job.folder)
    texts, labels = descriptions(job.train, job.run.limit)
    words = [data.vocabulary.tokenizer(text) for text in texts]
    for count in progress(job.sizes.growth, unit="file", label="documents to grow by"):
        write_csv(path_of(job.folder, count), words, labels, count, job.run.seed)
    return {
        "rows": len(data.texts),
        "rows_trained": len(data.training_rows),
        "vocabulary": len(data.vocabulary),
        "tokens_per_document": four_digits(data.tokens_per_document),
    }


def path_of(folder: Path, count: int) -> Path:
    """The file of so many documents."""
    return folder / f"documents_{count}.csv"


def write_csv(path: Path, words: list[list[str]], labels: np.ndarray, count: int, seed: int) -> None:
    """`count` documents made of `words` (those of N documents, of classes `labels`), in the form AG News has."""
    generator = np.random.default_rng(seed)
    # Without marks: a text must keep a letter or a digit.
    anywhere = [word for word in chain.from_iterable(words) if word.isalnum()]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        for i in range(count):
            own = words[i % len(words)]
            mixed = [own[j] for j in generator.permutation(len(own)).tolist()]
            exchanged = len(mixed) // EXCHANGED
            mixed[:exchanged] = [anywhere[j] for j in generator.integers(len(anywhere), size=exchanged).tolist()]
            writer.writerow((labels[i % len(words)] + 1, "", " ".join(mixed)))
