"""How large a program will be, before there is one: no more than this on a 32-bit machine, whatever the weights are."""

from dataclasses import dataclass

import numpy as np

from fedtiny.export.c.arena import arranged, buffers
from fedtiny.export.c.coding import coded
from fedtiny.export.c.steps import steps
from fedtiny.export.graph import Conv, Graph
from fedtiny.export.values import CValues

__all__ = ["Footprint", "footprint"]

CODE = {"float32": 2048, "int8": 3072}
"""Most bytes of the instructions, the same for all networks, in a linked firmware: GCC with -Os, Cortex-M4."""

STEP = {"float32": 52, "int8": 60}
"""Bytes of `struct step`."""

OUTPUT = 4
"""Bytes of an output channel beside its weights: a float, or two halves of a word."""

LOGIT = {"float32": 4, "int8": 8}
"""The same of a logit: in int8 two floats, since it is not rounded to a byte."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a program: `flash` of code and constants, `ram` of its arena and logits."""

    flash: int
    ram: int


def footprint(graph: Graph, values: CValues) -> Footprint:
    """The most that the graph's program takes, if its layers keep so many weights, at places like these.

    Weights that rounding makes 0 leave an int8 program smaller than this.
    """
    made = steps(graph)
    layers = [step.operation for step in made if isinstance(step.operation, Conv)]
    kept = [coded((x.weight != 0).astype(np.int8 if values == "int8" else np.float32)).nbytes for x in layers]
    outputs, logits = sum(len(x.weight) for x in layers[:-1]), made[-1].shape[0]
    return Footprint(
        flash=CODE[values] + STEP[values] * len(made) + sum(kept) + OUTPUT * outputs + LOGIT[values] * logits,
        ram=arranged(buffers(made, 1 if values == "int8" else 4)).nbytes + 4 * logits + 64,
    )
