"""How large a program will be, before there is one: no more than this on a 32-bit machine, whatever the weights are."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedtiny.export.c.arena import arranged, buffers
from fedtiny.export.c.coding import coded
from fedtiny.export.c.steps import steps
from fedtiny.export.graph import Conv, Graph

__all__ = ["Footprint", "footprint"]

CODE = {"float32": 2048, "int8": 3072}
"""Most bytes of the instructions, which are the same for all networks: GCC with -Os or -O2, Cortex-M."""

STEP = {"float32": 52, "int8": 60}
"""Bytes of `struct step`."""

OUTPUT = 4
"""Bytes of an output channel beside its weights: a float, or two halves of a word."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a program: `flash` of code and constants, `ram` of its arena and logits."""

    flash: int
    ram: int


def footprint(graph: Graph, values: Literal["float32", "int8"]) -> Footprint:
    """The most that the graph's program takes, if its layers keep so many weights, at places like these.

    Weights that rounding makes 0 leave an int8 program smaller than this.
    """
    made = steps(graph)
    layers = [step.operation for step in made if isinstance(step.operation, Conv)]
    kept = [coded((x.weight != 0).astype(np.int8 if values == "int8" else np.float32)).nbytes for x in layers]
    outputs = sum(len(x.weight) for x in layers)
    return Footprint(
        flash=CODE[values] + STEP[values] * len(made) + sum(kept) + OUTPUT * outputs,
        ram=arranged(buffers(made, 1 if values == "int8" else 4)).nbytes + 4 * made[-1].shape[0] + 64,
    )
