"""Constants of C: arrays and rows of structs as text."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["array", "literal", "rows"]

_C_TYPES = {"float32": "float", "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "uint16": "uint16_t"}
_A_LINE = 16

Numbers = NDArray[np.float32] | NDArray[np.int8] | NDArray[np.uint8] | NDArray[np.int16] | NDArray[np.uint16]


def array(name: str, values: Numbers) -> str:
    """`static const TYPE name[] = {...};` for (N,) numbers; C99 knows no empty arrays, so none are one 0."""
    suffix = "f" if values.dtype == np.float32 else ""
    texts = [f"{value!s}{suffix}" for value in values]  # the shortest that give the same float32 again
    texts = texts or ["0"]
    lines = [",".join(texts[i : i + _A_LINE]) for i in range(0, len(texts), _A_LINE)]
    return f"static const {_C_TYPES[values.dtype.name]} {name}[] = {{\n" + ",\n".join(lines) + "\n};\n"


def rows(name: str, of: Iterable[Mapping[str, int | float | str]]) -> str:
    """`static const struct step name[] = {...};`, a line for each row; keys are the members."""
    lines = ("    {" + ", ".join(f".{member} = {literal(value)}" for member, value in row.items()) + "}" for row in of)
    return f"static const struct step {name}[] = {{\n" + ",\n".join(lines) + "\n};\n"


def literal(value: int | float | str) -> str:
    """A number as C has it, floats as float32; a name as it is."""
    if isinstance(value, float):
        if np.isinf(value):
            return "FLT_MAX" if value > 0 else "-FLT_MAX"
        return f"{np.float32(value)!s}f"
    return str(value)
