"""What the tables of both kinds of program have in common: shapes, places in memory, places of weights."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedtiny.export.c.arena import Arena, sums_of
from fedtiny.export.c.coding import Taps
from fedtiny.export.c.steps import Step
from fedtiny.export.graph import Add, Conv, MaxPool

__all__ = ["Row", "codes_of", "row", "widest"]

Row = dict[str, int | float | str]


def row(step: Step, taps: Taps | None, arena: Arena, unit: int) -> Row:
    """The members of `struct step` that say where, how large and how.

    Args:
        step: The step.
        taps: Its weights, if it is a convolution.
        arena: Where everything lies.
        unit: Bytes in which the program counts offsets.
    """
    (channels, height, width), (out_channels, out_height, out_width) = step.reads, step.shape
    made: Row = {
        "x": _place(step.x, arena, unit),
        "also": "NONE" if step.also is None else _place(step.also, arena, unit),
        "y": _place(step.name, arena, unit),
        "sums": arena.offsets[sums_of(step.name)] // unit if sums_of(step.name) in arena.offsets else 0,
        "channels": channels,
        "height": height,
        "width": width,
        "out_channels": out_channels,
        "out_height": out_height,
        "out_width": out_width,
    }
    match step.operation:
        case Conv(weight=weight, stride=stride, padding=padding, groups=groups):
            assert taps is not None
            made |= {"kind": "CONVOLVE", "kernel": weight.shape[2], "stride": stride, "padding": padding}
            made |= {"groups": groups, "kept": len(taps.kept), "codes": len(taps.codes), "coding": taps.coding.name}
        case MaxPool(kernel=kernel, stride=stride):
            made |= {"kind": "MAX_POOL", "kernel": kernel, "stride": stride}
        case Add():
            made |= {"kind": "ADD"}
        case _:
            made |= {"kind": "MEAN_POOL"}
    return made


def _place(name: str, arena: Arena, unit: int) -> int | str:
    """An offset; the caller's are the logits, and the picture where the arena has none."""
    return arena.offsets[name] // unit if name in arena.offsets else "CALLER"


def codes_of(taps: Sequence[Taps]) -> NDArray[np.uint8]:
    """The codes of all layers, one behind the other."""
    return np.concatenate([np.zeros(0, np.uint8), *(layer.codes for layer in taps)])


def widest(made: Sequence[Step]) -> int:
    """The size of the largest kernel."""
    return max(int(step.operation.weight.shape[2]) for step in made if isinstance(step.operation, Conv))
