"""Writes a network as a C program: one file and its header, no heap, no libraries."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedtiny.export.c.arena import arranged, buffers
from fedtiny.export.c.equalise import equalised
from fedtiny.export.c.float32 import float32_tables
from fedtiny.export.c.int8 import int8_tables
from fedtiny.export.c.quanta import quanta_of, ranges_of
from fedtiny.export.c.steps import Step, steps
from fedtiny.export.graph import Conv, Floats, Graph, Shape
from fedtiny.export.values import CValues

__all__ = ["CProgram", "write"]

_MEANT: Mapping[CValues, Mapping[str, str]] = {
    "float32": {"WEIGHT_": "float", "VALUE_": "float", "LEAST_": "-FLT_MAX"},
    "int8": {"WEIGHT_": "int8_t", "VALUE_": "uint8_t", "LEAST_": "0"},
}
"""What marks in common.c stand for."""


@dataclass(frozen=True, slots=True)
class CProgram:
    """A program on disk.

    Attributes:
        source: The file to compile.
        header: What it offers.
        name: Prefix of its two functions.
        values: What it computes with.
        image: (channels, height, width) of the pictures that it takes.
        classes: Number of logits.
        arena_bytes: The memory in which it computes, apart from a call's stack and a float for each class.
    """

    source: Path
    header: Path
    name: str
    values: CValues
    image: Shape
    classes: int
    arena_bytes: int


def write(
    graph: Graph, folder: Path, name: str = "fedtiny", values: CValues = "float32", calibration: Floats | None = None
) -> CProgram:
    """Writes `name.c` and `name.h`.

    Args:
        graph: The network; the weights that are 0 cost nothing.
        folder: Where to; it is made if it is missing.
        name: Prefix of the two functions, so that two networks can be in one firmware.
        values: What to compute with.
        calibration: (N, C, H, W) float32 pictures that show int8 how large activations become; float32 needs none.

    Raises:
        ValueError: The name is none that C allows, a weight is not finite, the last operation leaves no logits,
            int8 has no pictures to be calibrated on, outputs that are not finite, or sums that could leave 32 bits.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"the name of a C program must be a letter, then letters, digits and _, got {name!r}")
    made = steps(graph)
    _check(made)
    arena = arranged(buffers(made, 1 if values == "int8" else 4))
    if values == "int8":
        if calibration is None or not len(calibration):
            raise ValueError("int8 must be calibrated on at least one picture, got none; or write float32")
        made, ranges = equalised(made, ranges_of(made, calibration))
        tables = int8_tables(made, arena, quanta_of(made, ranges))
    else:
        tables = float32_tables(made, arena)
    classes = made[-1].shape[0]
    folder.mkdir(parents=True, exist_ok=True)
    source, header = folder / f"{name}.c", folder / f"{name}.h"
    header.write_text(_header(name, graph.image, classes, values), encoding="utf-8")
    source.write_text(_source(name, values, f"#define CLASSES {classes}\n{tables}"), encoding="utf-8")
    return CProgram(source, header, name, values, graph.image, classes, arena.nbytes)


def _check(made: tuple[Step, ...]) -> None:
    for step in made:
        if isinstance(step.operation, Conv):
            for what, numbers in (("weight", step.operation.weight), ("bias", step.operation.bias)):
                if not np.isfinite(numbers).all():
                    raise ValueError(f"a network for C must be of finite numbers; {step.name} has a {what} that is not")


def _source(name: str, values: CValues, constants: str) -> str:
    """The kernels of these values, with what all programs share in their middle and at their end."""
    kernels, common, predict = (
        Path(__file__).with_name(f"{part}.c").read_text(encoding="utf-8") for part in (values, "common", "predict")
    )
    text = f"{kernels}\n{predict}"
    marks = {"/* @common */\n": common, "/* @tables */\n": constants, **_MEANT[values], "NAME_": f"{name}_"}
    for mark, meant in marks.items():
        text = text.replace(mark, meant)
    return f'/* A network, by FedTiny. {name}.h says how to call it. */\n#include "{name}.h"\n\n{text}'


def _header(name: str, image: Shape, classes: int, values: CValues) -> str:
    channels, height, width = image
    big = name.upper()
    return f"""/* A network, by FedTiny: {values}, no heap, not reentrant. */
#ifndef {big}_H
#define {big}_H
#ifdef __cplusplus
extern "C" {{
#endif

#define {big}_CHANNELS {channels}
#define {big}_HEIGHT {height}
#define {big}_WIDTH {width}
#define {big}_CLASSES {classes}

/* image: {channels} planes of {height} rows of {width} pixels, scaled as in training. Returns the class, from 0. */
int {name}_predict(const float *image);

/* The same; leaves {classes} logits. */
void {name}_logits(const float *image, float *logits);

#ifdef __cplusplus
}}
#endif
#endif
"""
