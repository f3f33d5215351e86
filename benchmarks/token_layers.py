"""What it costs to read words from their characters: pretraining and encoding, turn by turn with a table of words."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.data import descriptions, training_data
from benchmarks.measure import figure, timed
from benchmarks.models import SHAPE
from benchmarks.parts import Job
from benchmarks.training import pretraining, taken, tokens
from bilm.cli.run import Runtime
from bilm.config import TOKEN_LAYERS
from bilm.modules.language_model import BiLM
from bilm.runtime.terminal import progress
from bilm.text.batching import iterate_batches
from bilm.text.vocabulary import EncodedTexts
from evaluate import EvaluationOptions


def measure(job: Job, runtime: Runtime) -> dict[str, Any]:
    """By token layer: tokens per second in pretraining, and in encoding texts; parameters of the layer.

    A token is what it is in pretraining.DEFINITION. The texts to encode are those of test.csv; first: with all their
    words new, later: with all of them computed before, as in each further pass over the same texts.
    """
    sizes, texts = job.sizes, descriptions(job.test, job.run.limit)[0]
    users = {}
    for name in TOKEN_LAYERS:
        config = replace(SHAPE, token_layer=name)
        data = training_data(job.train, job.run.limit, job.folder, open_ended=config.reads_characters)
        training = pretraining(data, runtime, job.run.seed, config)
        training.seconds(taken(training.task.plan(0), 0, sizes.warm_steps))
        assert isinstance(training.model, BiLM)
        users[name] = (training, training.model, data.vocabulary)
    rates: dict[str, dict[str, list[float]]] = {name: {"training": [], "first": [], "later": []} for name in users}
    for repeat in progress(range(sizes.repeats), unit="turn", label="token layers"):
        for name, (training, model, vocabulary) in users.items():
            seconds, targets = training.seconds(taken(training.task.plan(0), repeat * sizes.steps, sizes.steps))
            rates[name]["training"].append(tokens(targets) / seconds)
            reader = _Reader(model.eval(), vocabulary.encode(texts), runtime)
            for when, taken_by in zip(("first", "later"), timed(reader.read, runtime.device, 2), strict=True):
                rates[name][when].append(reader.tokens / taken_by)
            model.train()
    return {
        name: {
            "tokens_per_second": figure(found["training"]),
            "first_encoded_per_second": figure(found["first"]),
            "later_encoded_per_second": figure(found["later"]),
            "parameters": sum(p.numel() for p in users[name][1].tokens.parameters()),
        }
        for name, found in rates.items()
    }


class _Reader:
    """All layers of all texts, in the batches of an evaluation."""

    def __init__(self, model: BiLM, texts: EncodedTexts, runtime: Runtime):
        self.model = model
        self.texts = texts
        self.runtime = runtime
        self.tokens = int((texts.lengths - 1).sum())

    @torch.no_grad()
    def read(self) -> None:
        with self.runtime.autocast():
            for batch in iterate_batches(self.texts, np.arange(len(self.texts)), EvaluationOptions().batch_tokens):
                self.model.encode(batch.to(self.runtime.device))
