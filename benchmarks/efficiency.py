"""Where the time of a pretraining step goes, and which share of the machine's matrix products training reaches.

Operations are counted from the shapes of the model's matrices. A matrix of n weights takes 2n operations for each row
of states (n multiplications and n additions); the backward pass takes twice as many, for the gradients of the states
and of the weights. Gates, softmax, dropout, the optimizer and padding are not counted.
"""

import os
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from benchmarks.data import training_data
from benchmarks.measure import figure, four_digits, now, rate_figure, timed
from benchmarks.parts import Job
from benchmarks.training import SHAPE, Training, pretraining
from bilm.cli.start import Runtime
from bilm.modules.language_model import DIRECTIONS, BiLM
from bilm.modules.softmax import AdaptiveSoftmax, FullSoftmax
from bilm.runtime.device import autocast, hardware, has_native_bf16
from bilm.runtime.terminal import progress
from bilm.text.batching import collate, reverse_within_length
from bilm.text.vocabulary import EncodedTexts

PRODUCTS = 8  # matrix products in a repetition
FORWARD_AND_BACKWARD = 3  # operations of a training step over those of its forward pass

# --- the machine ----------------------------------------------------------------------------------------------------


def measure_machine(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Describe the machine and measure its rates.

    gemm_*: matrix products in fp32, and in bf16 where the hardware computes in it, in 10^9 operations per second (a
    multiplication and an addition are two). copy: in 10^9 bytes per second, bytes read plus bytes written.
    """
    source = torch.ones(job.sizes.copied_mb * 2**20, dtype=torch.uint8, device=runtime.device)
    target = torch.zeros_like(source)
    dtypes = {"fp32": torch.float32}
    # Emulated, a product takes minutes.
    if runtime.precision == "bf16" or has_native_bf16(runtime.device):
        dtypes["bf16"] = torch.bfloat16
    return {
        "cpu": hardware(torch.device("cpu")),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": hardware(runtime.device) if runtime.device.type == "cuda" else None,
        **{f"gemm_{name}_gflops": _matrix_products(job, runtime.device, dtype) for name, dtype in dtypes.items()},
        "copy_gb_per_second": rate_figure(
            2 * source.numel() / 1e9, timed(partial(target.copy_, source), job.sizes.repeats)
        ),
    }


def _matrix_products(job: Job, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    size = job.sizes.gemm
    a, b, out = (torch.randn(size, size, device=device).to(dtype) for _ in range(3))

    def multiply() -> None:
        for _ in range(PRODUCTS):
            torch.mm(a, b, out=out)

    with autocast(device, "fp32"):  # no TF32
        multiply()
        return rate_figure(PRODUCTS * 2 * size**3 / 1e9, timed(multiply, job.sizes.repeats))


# --- operations -----------------------------------------------------------------------------------------------------


def matrix_operations(*modules: nn.Module) -> int:
    """Count the operations of the forward pass of all matrices of `modules` for one row of states."""
    return 2 * sum(p.numel() for module in modules for p in module.parameters() if p.dim() > 1)


def softmax_operations(softmax: AdaptiveSoftmax | FullSoftmax, targets: np.ndarray) -> float:
    """Count the operations of the forward pass for one target in one direction: the mean over `targets` (N,).

    In the adaptive softmax a rare word takes one cluster in addition.
    """
    if isinstance(softmax, FullSoftmax):
        return matrix_operations(softmax)
    clusters = zip(softmax.tails, softmax.edges[:-1], softmax.edges[1:], strict=True)
    shares = [
        matrix_operations(tail) * float(((targets >= low) & (targets < high)).mean()) for tail, low, high in clusters
    ]
    return matrix_operations(softmax.head) + sum(shares)


def training_operations(model: BiLM, targets: np.ndarray) -> dict[str, float]:
    """Count the operations of a training step per token, which is a target in each direction: {"lstm", "softmax"}.

    targets: of one direction; those of the other differ only in the boundaries, and both boundaries are frequent.
    """
    assert model.softmax is not None
    softmax = len(DIRECTIONS) * softmax_operations(model.softmax, targets)
    lstm = matrix_operations(model.forward_lstm, model.backward_lstm)
    return {"lstm": FORWARD_AND_BACKWARD * lstm, "softmax": FORWARD_AND_BACKWARD * softmax}


def with_shares(figures: dict[str, Any], gemm: float) -> dict[str, Any]:
    """Add to the figures of pretraining which share of `gemm` (10^9 operations per second) its matrices reach.

    gemm_share: of training; lstm_gemm_share: of the LSTMs alone, if they were measured.
    """
    operations = figures["operations_per_token"]
    shares = {
        name: four_digits(figures[rate]["median"] * count / (gemm * 1e9))
        for name, rate, count in (
            ("gemm_share", "tokens_per_second", sum(operations.values())),
            ("lstm_gemm_share", "lstm_tokens_per_second", operations["lstm"]),
            ("lstm_gemm_share_without_dropout", "lstm_tokens_per_second_without_dropout", operations["lstm"]),
        )
        if rate in figures
    }
    return {**figures, **shares}


# --- a step ---------------------------------------------------------------------------------------------------------


def measure_step(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Return the milliseconds of each part of a step, and the tokens per second of the LSTMs alone.

    A repetition of step_ms is a batch, so its spread is that over batches of different shapes.
    """
    sizes = job.sizes
    data = training_data(job.train, job.run.limit, job.folder)
    training = pretraining(data, job, runtime)
    items = training.batches(0, sizes.parts_steps)
    parts = [seconds_of_parts(training, data.texts, item) for item in progress(items, unit="step", label="step")]
    figures: dict[str, Any] = {"step_ms": {name: figure([1e3 * part[name] for part in parts]) for name in parts[0]}}
    for suffix, dropout in (("", SHAPE.dropout), ("_without_dropout", 0.0)):
        model = BiLM(replace(SHAPE, dropout=dropout), len(data.vocabulary)).to(runtime.device).train()
        lstm_rate(model, data.texts, items[: sizes.warm_steps], runtime)
        turns = [training.batches(i * sizes.steps, sizes.steps) for i in range(sizes.repeats)]
        figures[f"lstm_tokens_per_second{suffix}"] = figure([lstm_rate(model, data.texts, t, runtime) for t in turns])
    return figures


def seconds_of_parts(training: Training[BiLM], texts: EncodedTexts, item: np.ndarray) -> dict[str, float]:
    """Return the seconds of each part of a step on the batch `item`, and of the complete step.

    The states of the LSTMs are computed once more for this purpose. The softmax is the rest of the forward pass, so
    the model itself needs no timers.
    """
    device, context = training.runtime.device, training.runtime.autocast
    # Once without timing: oneDNN prepares its kernels when it sees a shape for the first time.
    training.step(item)
    started = now()
    batch = collate(texts, item).to(device)
    collated = now()
    with context():
        training.model.lm_targets(batch)
    before = now()
    with context():
        loss = training.model(batch).sum()
    forward = now()
    count = len(DIRECTIONS) * int((batch.lengths - 1).sum())
    (loss * (1 / count)).backward()
    backward = now()
    training.update(loss.detach(), count)
    ended = now()
    lstm = before - collated
    return {
        "data": collated - started,
        "lstm_forward": lstm,
        "softmax_forward": forward - before - lstm,
        "backward": backward - forward,
        "optimizer": ended - backward,
        "whole": collated - started + ended - before,
    }


def lstm_rate(model: BiLM, texts: EncodedTexts, items: list[np.ndarray], runtime: Runtime) -> float:
    """Return the tokens per second of the forward and the backward pass of both LSTM stacks, in the batches `items`."""
    seconds, tokens = 0.0, 0
    for item in items:
        batch = collate(texts, item).to(runtime.device)
        x = model.tokens(batch.ids, batch.lexicon).detach()
        inputs = [x.requires_grad_(), reverse_within_length(x, batch.lengths).detach().requires_grad_()]
        seconds += sum(timed(partial(_run_stacks, model, inputs, batch.lengths, runtime), 1))
        model.zero_grad(set_to_none=True)
        tokens += int((batch.lengths - 1).sum())
    return tokens / seconds


def _run_stacks(model: BiLM, inputs: list[torch.Tensor], lengths: torch.Tensor, runtime: Runtime) -> None:
    stacks = (model.forward_lstm, model.backward_lstm)
    with runtime.autocast():
        tops = [stack(x, lengths)[-1] for stack, x in zip(stacks, inputs, strict=True)]
    torch.autograd.backward(tops, [torch.ones_like(top) for top in tops])
