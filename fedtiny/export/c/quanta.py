"""What a byte stands for: scale * (byte - zero), with one scale and zero for each tensor, from what pictures show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedtiny.export.c.steps import Step
from fedtiny.export.compute import outputs
from fedtiny.export.graph import Floats, Graph, MaxPool

__all__ = ["Quanta", "calibrated", "spread"]

_AT_ONCE = 64


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


def calibrated(graph: Graph, made: Sequence[Step], pictures: Floats) -> Mapping[str, Quanta]:
    """Name -> quanta of the picture and of each step's output, from the least and the greatest of its values.

    Args:
        graph: The network.
        made: Its steps.
        pictures: (N, C, H, W) float32, at least one.
    """
    names = ["image", *(step.name for step in made)]
    low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for start in range(0, len(pictures), _AT_ONCE):
        found = outputs(graph, pictures[start : start + _AT_ONCE])
        for name in names:
            low[name] = min(low[name], float(found[name].min()))
            high[name] = max(high[name], float(found[name].max()))
    quanta = {name: spread(low[name], high[name]) for name in names}
    for step in made:
        if isinstance(step.operation, MaxPool):
            quanta[step.name] = quanta[step.x]  # a pool chooses among bytes
    return quanta
