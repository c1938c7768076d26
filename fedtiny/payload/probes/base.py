"""What every question promises: how its answer looks on the wire, and what it asks of a device."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedtiny.value import Value

__all__ = ["Demand", "Places", "Question", "Sizes", "floats"]

Sizes = Mapping[str, int]
"""Parameter or buffer name -> its number of entries: what both sides know of the network."""

Places = Mapping[str, Tensor]
"""Masked parameter -> flat indices of its kept weights, ascending."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What something asks of a device beyond plain training.

    Attributes:
        dense: Layers whose dense weight gradient is computed.
        every_step: Whether in every step of training, or in one.
        held_bytes: What is kept of it in memory.
    """

    dense: tuple[str, ...] = ()
    every_step: bool = False
    held_bytes: int = 0


class Question(Value):
    """One thing that a server may ask of a client.

    Beside what it demands, a question says how long its answer is (`answer_bytes`), how it is read (`decode`), and
    what an answer looks like that nobody measured (`blank`): a run's costs are foreseen with such ones.
    """

    def demand(self, sizes: Sizes) -> Demand:
        """What it asks of a device beyond training, or beyond forward passes where nothing is trained."""
        return Demand()


def floats(buffer: memoryview, offset: int, count: int) -> Tensor:
    """(count,) float32, a copy of the numbers at `offset`."""
    return torch.from_numpy(np.frombuffer(buffer, np.float32, count, offset).copy())
