"""What every question promises: how its answer looks on the wire, and what it asks of a device."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedtiny.payload.training import Training
from fedtiny.value import Value

__all__ = ["LARGEST", "Demand", "Look", "Most", "Places", "Question", "Sizes", "floats"]

LARGEST = 1e8
"""Numbers beyond it are refused. Batch-norm variances of narrow layers do reach 1e6; and exact sums need a bound."""

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


@dataclass(frozen=True, slots=True)
class Look:
    """What a question without training looks at, of the examples it may see.

    Attributes:
        batch: Examples a batch.
        batches: Batches, drawn at random; None is all examples, in order.
        passes: Forward passes that what is done with an example amounts to.
    """

    batch: int = Training().batch
    batches: int | None = None
    passes: int = 1

    def examples(self, there: float) -> float:
        """How many it sees of so many."""
        return there if self.batches is None else min(there, self.batches * self.batch)


@dataclass(frozen=True, slots=True)
class Most:
    """What a client can have seen at most to answer a question: who claims more lies.

    Attributes:
        examples: Examples it measured on.
        values: Values a channel that a batch-norm layer saw of them.
    """

    examples: int
    values: int


class Question(Value):
    """One thing that a server may ask of a client.

    Beside what it demands, a question says how long its answer is (`answer_bytes`), how it is read (`decode`), and
    what an answer looks like that nobody measured (`blank`): a run's costs are foreseen with such ones.
    """

    @property
    def look(self) -> Look:
        """What it looks at where nothing is trained: by default all examples once."""
        return Look()

    @property
    def measures(self) -> bool:
        """Whether it needs no training: then it is answered before any, on the weights as they were received."""
        return False

    def demand(self, sizes: Sizes) -> Demand:
        """What it asks of a device beyond training, or beyond forward passes where nothing is trained."""
        return Demand()


def floats(buffer: memoryview, offset: int, count: int) -> Tensor:
    """(count,) float32, a copy of the numbers at `offset`."""
    return torch.from_numpy(np.frombuffer(buffer, np.float32, count, offset).copy())
