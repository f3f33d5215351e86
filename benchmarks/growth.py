"""Ten times and a hundred times as many documents: what happens to the time per token, to memory and to the disk.

The vocabulary is the corpus' for all sizes, so that a token costs the model the same.
"""

from typing import Any

from benchmarks.data import load_vocabulary, training_data
from benchmarks.documents import path_of
from benchmarks.measure import figure, now
from benchmarks.parts import Job
from benchmarks.training import pretraining, taken, tokens
from bilm.cli.run import Runtime
from bilm.runtime.terminal import progress


def measure(job: Job, runtime: Runtime, documents: int) -> dict[str, Any]:
    """One size: seconds per million tokens for reading and for training, and the disk that is taken beside the CSV."""
    path = path_of(job.folder, documents)
    vocabulary = load_vocabulary(job.folder)
    started = now(runtime.device)
    data = training_data(path, None, job.folder, vocabulary)
    encoding = now(runtime.device) - started
    training = pretraining(data, runtime, job.run.seed)
    started = now(runtime.device)
    plan = training.task.plan(0)
    planning = now(runtime.device) - started
    training.seconds(taken(plan, 0, job.sizes.warm_steps))
    rates = []
    for turn in progress(range(job.sizes.repeats), unit="turn", label=f"growth to {documents:,} documents"):
        items = taken(plan, job.sizes.warm_steps + turn * job.sizes.growth_steps, job.sizes.growth_steps)
        seconds, targets = training.seconds(items)
        rates.append(seconds / tokens(targets) * 1e6)
    count = int((data.texts.lengths - 1).sum())
    return {
        "documents": documents,
        "tokens": count,
        "encode_seconds_per_million_tokens": figure([encoding / count * 1e6]),
        "plan_seconds": figure([planning]),
        "train_seconds_per_million_tokens": figure(rates),
        "csv_mb": round(path.stat().st_size / 1e6, 1),
        "disk_mb": round(sum(file.stat().st_size for file in data.folder.iterdir()) / 1e6, 1),
    }
