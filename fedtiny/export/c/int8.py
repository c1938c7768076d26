"""A program that computes in int8 weights, uint8 activations, int32 sums and fixed-point factors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2

import numpy as np
from numpy.typing import NDArray

from fedtiny.export.c.arena import Arena, sum_rows
from fedtiny.export.c.coding import Taps, coded
from fedtiny.export.c.layout import Row, codes_of, row, widest
from fedtiny.export.c.quanta import Quanta
from fedtiny.export.c.steps import Step
from fedtiny.export.c.tables import array, literal, rows
from fedtiny.export.graph import Add, Conv, MeanPool

__all__ = ["Whole", "factors_of", "int8_tables", "shifts_of", "whole"]

_MOST = 127
_FRACTION_BITS = 16  # of quanta, behind a factor


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """A layer in whole numbers.

    Attributes:
        weight: (outputs, inputs / groups, K, K) int8, at most 127 in size.
        scales: (outputs,) float64: what 1 in a sum stands for; 0 for an output without weights.
    """

    weight: NDArray[np.int8]
    scales: NDArray[np.float64]


def whole(name: str, conv: Conv, x: Quanta) -> Whole:
    """The layer in whole numbers: each output has a scale of its own.

    Args:
        name: Of the layer, for errors.
        conv: The layer.
        x: What the bytes of its input stand for.

    Raises:
        ValueError: A sum could leave int32.
    """
    flat = conv.weight.reshape(len(conv.weight), -1).astype(np.float64)
    scales = np.abs(flat).max(axis=1, initial=0) / _MOST
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    weight = np.rint(flat * inverse[:, None])
    if np.abs(weight).sum(axis=1).max() * 255 >= 2**31:
        raise ValueError(f"a layer for int8 must have sums within 32 bits; those of {name} can leave them: use float32")
    return Whole(weight.astype(np.int8).reshape(conv.weight.shape), scales * x.scale)


def factors_of(ratios: NDArray[np.float64], bits: int) -> tuple[NDArray[np.int64], int]:
    """Whole factors of so many bits, and a shift, such that `n * factor >> shift` is n * ratio * 65536."""
    greatest = float(ratios.max(initial=0))
    if greatest == 0:
        return np.zeros(len(ratios), np.int64), 0
    shift = min(62, max(0, bits - 1 - int(np.floor(log2(greatest))) - _FRACTION_BITS))
    factors = np.minimum(np.rint(ratios * 2.0 ** (shift + _FRACTION_BITS)), 2**bits - 1)
    return factors.astype(np.int64), shift


def shifts_of(bias: NDArray[np.float64]) -> tuple[NDArray[np.int16], int]:
    """Bias in quanta as int16, and a shift, such that `int16 << shift` is bias * 65536, as near as 15 bits come."""
    fixed = bias * 2.0**_FRACTION_BITS
    greatest = float(np.abs(fixed).max(initial=0))
    shift = min(40, max(0, int(np.ceil(log2(greatest / 32767))))) if greatest > 0 else 0
    return np.clip(np.rint(fixed / 2.0**shift), -32767, 32767).astype(np.int16), shift


def int8_tables(made: Sequence[Step], arena: Arena, quanta: Mapping[str, Quanta]) -> str:
    """The constants of int8.c for these steps.

    Raises:
        ValueError: A sum could leave int32.
    """
    table: list[Row] = []
    taps: list[Taps] = []
    bias, factors = [np.zeros(0, np.int16)], [np.zeros(0, np.uint16)]
    for step in made:
        x, y = quanta[step.x], quanta[step.name]
        layer = None
        members: Row = {"x_zero": x.zero, "y_zero": y.zero, "low": y.byte(step.low), "high": y.byte(step.high)}
        if step.also is not None:
            also = quanta[step.also]
            members |= {"also_zero": also.zero, "also_factor": _factor(also.scale / y.scale)}
        if isinstance(step.operation, Conv):
            numbers = whole(step.name, step.operation, x)
            layer = coded(numbers.weight)
            taps.append(layer)
            over = arena.offsets[step.x] == arena.offsets.get(step.name)
            members["rows"] = sum_rows(step, over, 1)
            if step is not made[-1]:
                of_layer, members["shift"] = factors_of(numbers.scales / y.scale, 16)
                factors.append(of_layer.astype(np.uint16))
                shifts, members["bias_shift"] = shifts_of(step.operation.bias.astype(np.float64) / y.scale)
                bias.append(shifts)
        elif isinstance(step.operation, MeanPool):
            pixels = step.reads[1] * step.reads[2]
            (factor,), members["shift"] = factors_of(np.array([x.scale / y.scale / pixels]), 31)
            members["x_factor"] = int(factor)
        elif isinstance(step.operation, Add):
            members["x_factor"] = _factor(x.scale / y.scale)
        table.append(row(step, layer, arena, 1) | members)
    image, head = quanta["image"], made[-1].operation
    assert isinstance(head, Conv)
    return "".join(
        [
            f"#define KERNEL {widest(made)}\n",
            f"#define PIXELS {np.prod(made[0].reads)}\n",
            f"#define IMAGE {arena.offsets['image']}\n",
            f"#define IMAGE_FACTOR {literal(1 / image.scale)}\n",
            f"#define IMAGE_ZERO {literal(float(image.zero))}\n",
            f"static int32_t arena[{arena.nbytes // 4}];\n",
            array("weights", np.concatenate([layer.kept for layer in taps]).astype(np.int8, copy=False)),
            array("codes", codes_of(taps)),
            array("bias", np.concatenate(bias)),
            array("factors", np.concatenate(factors)),
            array("logit_scales", numbers.scales.astype(np.float32)),
            array("logit_bias", head.bias),
            rows("steps", table),
        ]
    )


def _factor(ratio: float) -> int:
    """The ratio times 65536, as far as 31 bits go."""
    return round(min(ratio * 2.0**_FRACTION_BITS, 2.0**31 - 1))
