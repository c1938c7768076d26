"""Seconds and bytes of a training step and of inference, as this machine has them."""

import gc
import math
import os
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from fedtiny.sparse.engine.memory import logged
from fedtiny.sparse.engine.sparsify import sparsify
from fedtiny.sparse.mask import Mask
from fedtiny.value import Value

__all__ = ["Cost", "Stepper", "measure", "random_mask"]


class Cost(Value):
    """What a step costs, dense and sparse, measured in one process, in turns.

    Attributes are medians; a spread is the distance of the quartiles divided by the median.
    """

    dense_seconds: float
    """Seconds of a step of the dense network in PyTorch."""
    sparse_seconds: float
    """Seconds of a step of the sparse network on the engine."""
    dense_spread: float
    """Spread of the dense seconds."""
    sparse_spread: float
    """Spread of the sparse seconds."""
    dense_bytes: int
    """Bytes at the dense step's peak that do not grow with the batch: weights, gradients, momentum, scratch."""
    sparse_bytes: int
    """The same of the sparse step, with the mask's topology."""
    dense_peak_bytes: int
    """Bytes at the dense step's peak, activations too."""
    sparse_peak_bytes: int
    """The same of the sparse step."""

    @property
    def speedup(self) -> float:
        """Dense seconds / sparse seconds."""
        return self.dense_seconds / self.sparse_seconds


def random_mask(shapes: Mapping[str, tuple[int, ...]], density: float) -> Mask:
    """Keeps the same share of each parameter, at random places, always the same."""
    generator = torch.Generator().manual_seed(0)
    keep = {}
    for name, shape in shapes.items():
        size = math.prod(shape)
        places = torch.randperm(size, generator=generator)[: max(1, round(density * size))]
        keep[name] = torch.zeros(size, dtype=torch.bool).index_fill_(0, places, True).view(shape)
    return Mask(keep)


class Stepper:
    """A copy of a network with its own optimizer, made to step on random pictures.

    Attributes:
        batch: (N, C, H, W) pictures and (N,) labels.
    """

    def __init__(
        self,
        module: nn.Module,
        shape: tuple[int, int, int],
        batch: int,
        mask: Mask | None,
        dense_above: Mapping[str, float] | None = None,
    ) -> None:
        """Copies the network; with a mask, the copy is sparse."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(batch, *shape, generator=generator)
        self.batch = images, torch.zeros(batch, dtype=torch.int64)
        self._net = deepcopy(module)
        if mask is not None:
            self._net = sparsify(self._net, mask, dense_above)
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=1e-4, momentum=0.9)

    def train(self) -> None:
        """Forward, cross-entropy, backward, SGD with momentum."""
        self._net.train()
        images, labels = self.batch
        self._optimizer.zero_grad()
        functional.cross_entropy(self._net(images), labels).backward()
        self._optimizer.step()

    def infer(self) -> Tensor:
        """A forward pass in evaluation mode."""
        self._net.eval()
        with torch.inference_mode():
            logits: Tensor = self._net(self.batch[0])
        return logits


def measure(
    dense: Callable[[int], Stepper],
    sparse: Callable[[int], Stepper],
    batch: int,
    call: Callable[[Stepper], object],
    seconds: float,
) -> Cost:
    """Seconds and bytes of `call` on a dense and on a sparse stepper.

    Args:
        dense: Makes a dense stepper for a batch of so many examples.
        sparse: Makes a sparse one.
        batch: Examples a step.
        call: `Stepper.train` or `Stepper.infer`.
        seconds: Time both in turns for about as long; at least three times each.
    """
    steppers = dense(batch), sparse(batch)
    told: tuple[list[float], list[float]] = [], []
    for stepper in 4 * steppers:
        call(stepper)  # to warm up: the first steps also fetch memory from the system
    end = time.perf_counter() + seconds
    while len(told[1]) < 3 or time.perf_counter() < end:
        for stepper, times in zip(steppers, told, strict=True):
            start = time.perf_counter()
            call(stepper)
            times.append(time.perf_counter() - start)
    fixed, peaks = zip(*(_bytes(make, batch, call) for make in (dense, sparse)), strict=True)
    return Cost(
        dense_seconds=median(told[0]),
        sparse_seconds=median(told[1]),
        dense_spread=_spread(told[0]),
        sparse_spread=_spread(told[1]),
        dense_bytes=fixed[0],
        sparse_bytes=fixed[1],
        dense_peak_bytes=peaks[0],
        sparse_peak_bytes=peaks[1],
    )


def _spread(told: list[float]) -> float:
    ordered = sorted(told)
    n = len(ordered)
    return (ordered[(3 * n) // 4] - ordered[n // 4]) / median(told)


def _peak_bytes(make: Callable[[], Stepper], call: Callable[[Stepper], object]) -> int:
    """The most bytes that were held at once during the second call, everything made here counted.

    PyTorch's allocator tells of its own, the engine's buffers of theirs; what oneDNN takes for itself is not seen.
    """
    gc.collect()  # else what others left is freed, and counted, in between
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes to the console
    with logged() as buffers, profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        stepper = make()
        call(stepper)
        mark = time.time_ns()
        call(stepper)
    assert trace.profiler is not None
    results = trace.profiler.kineto_results
    assert results is not None
    events = sorted([*((x.start_ns(), x.nbytes()) for x in results.events() if x.name() == "[memory]"), *buffers])
    peak = held = 0
    for at, change in events:
        held += change
        if at >= mark:
            peak = max(peak, held)
    return peak


def _bytes(make: Callable[[int], Stepper], batch: int, call: Callable[[Stepper], object]) -> tuple[int, int]:
    """Bytes at the peak that do not grow with the batch, and all bytes at the peak.

    Activations grow with the batch, nothing else does: a line through the peaks at two batches meets no batch at all at
    what is left without them.
    """
    sizes = (batch // 2, batch) if batch >= 4 else (batch, 2 * batch)  # batch norm may want more than one
    peaks = {size: _peak_bytes(partial(make, size), call) for size in sizes}
    few, many = sizes
    return max(0, round(peaks[few] - (peaks[many] - peaks[few]) * few / (many - few))), peaks[batch]
