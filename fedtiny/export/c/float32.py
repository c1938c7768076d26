"""A program that computes in float32."""

from collections.abc import Sequence

import numpy as np

from fedtiny.export.c.arena import Arena
from fedtiny.export.c.coding import coded
from fedtiny.export.c.layout import Row, codes_of, row, widest
from fedtiny.export.c.steps import Step
from fedtiny.export.c.tables import array, rows
from fedtiny.export.graph import Conv

__all__ = ["float32_tables"]


def float32_tables(made: Sequence[Step], arena: Arena) -> str:
    """The constants of float32.c for these steps."""
    table: list[Row] = []
    taps, bias = [], [np.zeros(0, np.float32)]
    for step in made:
        layer = None
        if isinstance(step.operation, Conv):
            layer = coded(step.operation.weight)
            taps.append(layer)
            bias.append(step.operation.bias)
        table.append({**row(step, layer, arena, 4), "low": step.low, "high": step.high})
    return "".join(
        [
            f"#define KERNEL {widest(made)}\n",
            f"static float arena[{max(1, arena.nbytes // 4)}];\n",
            array("weights", np.concatenate([layer.kept for layer in taps]).astype(np.float32, copy=False)),
            array("codes", codes_of(taps)),
            array("bias", np.concatenate(bias)),
            rows("steps", table),
        ]
    )
