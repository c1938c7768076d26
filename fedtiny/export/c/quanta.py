"""What a byte stands for: scale * (byte - zero), with one scale and zero for each tensor, from what pictures show."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedtiny.export.c.equalise import Range
from fedtiny.export.c.steps import Step
from fedtiny.export.graph import Add, Floats, MaxPool
from fedtiny.export.quick import operator

__all__ = ["Quanta", "quanta_of", "ranges_of", "spread"]

_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Quanta:
    """A byte q stands for scale * (q - zero); zero is in 0..255, so that 0.0 is exact: padding and ReLU are."""

    scale: float
    zero: int

    def byte(self, value: float) -> int:
        """The nearest byte; infinities are the ends."""
        return int(min(255.0, max(0.0, np.rint(value / self.scale + self.zero))))


def spread(low: float, high: float) -> Quanta:
    """Bytes from the lowest to the highest value, and to 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    # Below the least normal float32, nothing can be told apart anyway.
    return Quanta(scale, round(-low / scale)) if scale > np.finfo(np.float32).tiny else Quanta(1.0, 0)


def quanta_of(made: Sequence[Step], ranges: Mapping[str, Range]) -> Mapping[str, Quanta]:
    """Name -> quanta of the picture and of each step's output, from the ranges of their channels."""
    quanta = {name: spread(float(of.low.min()), float(of.high.max())) for name, of in ranges.items()}
    for step in made:
        if isinstance(step.operation, MaxPool):
            quanta[step.name] = quanta[step.x]  # a pool chooses among bytes
    return quanta


def ranges_of(made: Sequence[Step], pictures: Floats) -> Mapping[str, Range]:
    """Name -> what the channels of the picture and of each step's output reach.

    Args:
        made: The steps of a network.
        pictures: (N, C, H, W) float32, at least one.

    Raises:
        ValueError: An output is not finite.
    """
    ranges: dict[str, Range] = {}
    for start in range(0, len(pictures), _AT_ONCE):
        for name, found in _outputs(made, torch.tensor(pictures[start : start + _AT_ONCE])):
            low, high = (of.double().numpy() for of in (found.amin((0, 2, 3)), found.amax((0, 2, 3))))
            old = ranges.setdefault(name, Range(np.zeros_like(low), np.zeros_like(high)))
            ranges[name] = Range(np.minimum(old.low, low), np.maximum(old.high, high))
    for name, of in ranges.items():
        if not (np.isfinite(of.low).all() and np.isfinite(of.high).all()):
            raise ValueError(f"int8 must be calibrated on finite outputs, those of {name} are not: use float32")
    return ranges


def _outputs(made: Sequence[Step], pictures: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Each step's (N, C, H, W) output, the picture first; only those that are read again are kept."""
    last = {name: i for i, step in enumerate(made) for name in step.inputs}
    known = {"image": pictures}
    yield "image", pictures
    for i, step in enumerate(made):
        out = known[step.x]
        if not isinstance(step.operation, Add):
            out = operator(step.operation)(out).reshape(-1, *step.shape)
        if step.also is not None:
            out = out + known[step.also]
        out = out.clamp(step.low, step.high)
        known = {name: value for name, value in known.items() if last[name] > i}
        if step.name in last:
            known[step.name] = out
        yield step.name, out
