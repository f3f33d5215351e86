"""CUDA graphs: a GPU computes loss and gradients without waiting for Python to start each kernel.

A training step of these models is about a thousand short kernels. A GPU computes them in a few milliseconds; starting
them one by one takes the CPU several times as long (docs/performance.md). Captured in a CUDA graph, they are started at
once. A graph is valid for one shape, so that batches are padded to one of a few shapes, with a graph each.
"""

from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bilm.modules.softmax import IGNORE_INDEX
from bilm.text.batching import Batch
from bilm.text.vocabulary import PAD

# Capturing takes as long as several steps: it pays for shapes that are used often.
USES_BEFORE_CAPTURE = 3
# No graph is captured when less than this share of the GPU's memory is free.
FREE_MEMORY = 0.2

Shape = tuple[int, int]


class GraphedModel(nn.Module):
    """Called like `model`, in training, with a batch on a GPU and labels (B,), if it takes any; returns its loss, ().

    Batches whose loss cannot have a static shape (`model.allows_static_shape`) are passed on to the model, and so are
    those with layers that were computed before. For the others, gradients are computed together with the
    loss, and are those of the last call: backward() has to follow before the next, and replaces earlier gradients. The
    bits of both do not depend on whether a graph computes them.
    """

    def __init__(self, model: nn.Module, batch_tokens: int):
        """batch_tokens: largest B x T of a batch, unless it is one text."""
        super().__init__()
        self.model = model
        self.batch_tokens = batch_tokens
        self.gradients: dict[nn.Parameter, Tensor] = {}
        self._captured: dict[Shape, _CapturedGraph] = {}
        self._uses: Counter[Shape] = Counter()

    def forward(self, batch: Batch, labels: Tensor | None = None, upper: Any = None) -> Tensor:
        """labels, upper: see EncoderClassifier."""
        shape, given = padded_shape(batch.ids.shape[1], self.batch_tokens), () if labels is None else (labels,)
        allows_static_shape: Any = self.model.allows_static_shape
        if upper is not None or not allows_static_shape(batch, shape[0] * shape[1]):
            return self.model(batch, *given, **({} if upper is None else {"upper": upper})).sum()
        inputs = padded(batch, shape, *given)
        self._uses[shape] += 1
        if self._uses[shape] > USES_BEFORE_CAPTURE and shape not in self._captured and _has_memory():
            self._captured[shape] = _CapturedGraph(self, inputs, next(iter(self._captured.values()), None))
        captured = self._captured.get(shape)
        loss = self.compute(inputs) if captured is None else captured.replay(inputs)
        return _ComputedLoss.apply(loss.requires_grad_(), self.gradients)

    def compute(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Compute the loss of `padded` inputs, (), and leave its gradients in `gradients`."""
        ids, lengths, *labels = inputs
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        for gradient in self.gradients.values():
            gradient.zero_()
        for parameter in parameters:
            parameter.grad = self.gradients.get(parameter)
        device = ids.device.type
        dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        # Without the cache of converted weights, which would belong to one graph.
        with torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=False):
            loss = self.model(Batch(ids, lengths, has_static_shape=True), *labels).sum()
        with torch.autocast(device, enabled=False):
            loss.backward()
        # At first, and only then, backward() allocates the gradients.
        self.gradients = {p: p.grad for p in parameters if p.grad is not None}
        return loss.detach()


class _ComputedLoss(torch.autograd.Function):
    """A loss whose gradients have been computed."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: dict[nn.Parameter, Tensor]) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, None]:
        torch._foreach_mul_(list(ctx.gradients.values()), upstream[0])
        for parameter, gradient in ctx.gradients.items():
            parameter.grad = gradient
        return None, None


class _CapturedGraph:
    """GraphedModel.compute as a CUDA graph for inputs of one shape."""

    def __init__(self, model: GraphedModel, inputs: tuple[Tensor, ...], other: "_CapturedGraph | None"):
        """other: a graph with which this one shares memory and a stream: only one of them is replayed at a time."""
        self.inputs = tuple(x.clone() for x in inputs)
        self.pool: Any = other.pool if other else torch.cuda.graph_pool_handle()
        # cuBLAS keeps a workspace for each stream.
        self.stream: torch.cuda.Stream = other.stream if other else torch.cuda.Stream()
        self.graph = torch.cuda.CUDAGraph()
        random = torch.cuda.get_rng_state()
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            model.compute(self.inputs)  # libraries allocate memory in their first call, which cannot be captured
        torch.cuda.current_stream().wait_stream(self.stream)
        with torch.cuda.graph(self.graph, pool=self.pool, stream=self.stream):
            self.loss = model.compute(self.inputs)
        torch.cuda.set_rng_state(random)  # the next step has the random numbers that it has without a graph

    def replay(self, inputs: tuple[Tensor, ...]) -> Tensor:
        for target, source in zip(self.inputs, inputs, strict=True):
            target.copy_(source)
        self.graph.replay()
        return self.loss.detach()


def _has_memory() -> bool:
    free, total = torch.cuda.mem_get_info()
    # What PyTorch keeps for later allocations is free as well.
    return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated() > FREE_MEMORY * total


def padded_shape(width: int, batch_tokens: int) -> Shape:
    """Return (B, T) of the shape that batches with texts of up to `width` tokens are padded to.

    There are four values of T from each power of two to the next, and one B for each of them: as many texts as fit into
    batches of the shortest such texts.
    """
    step = max(1, 2 ** ((width - 1).bit_length() - 3))
    widest = -(-width // step) * step
    return max(1, batch_tokens // (widest - step + 1)), widest


def padded(batch: Batch, shape: Shape, *labels: Tensor) -> tuple[Tensor, ...]:
    """Return ids, lengths and labels of `shape`, on the device of the ids.

    The texts that are added have one token, hence no target, and the label IGNORE_INDEX.
    """
    device, texts = batch.ids.device, shape[0] - len(batch.ids)
    ids = F.pad(batch.ids, (0, shape[1] - batch.ids.shape[1], 0, texts), value=PAD)
    lengths = F.pad(batch.lengths, (0, texts), value=1)
    if device.type == "cuda":
        lengths = lengths.pin_memory()
    return ids, lengths.to(device, non_blocking=True), *(F.pad(x, (0, texts), value=IGNORE_INDEX) for x in labels)
