"""The formats of an exported network; light, so that the command line can name them."""

from typing import Literal

from fedtiny.export.values import Values

__all__ = ["FORMATS", "SUFFIXES", "Format"]

Format = Literal["packed", "onnx", "c", "torch"]

FORMATS: dict[Format, tuple[Values, ...]] = {
    "packed": ("float32", "float16", "int8"),
    "onnx": ("float32",),
    "c": ("float32", "int8"),
    "torch": ("float32",),
}
"""What values each can hold."""

SUFFIXES: dict[Format, str] = {"packed": ".packed", "onnx": ".onnx", "c": ".c", "torch": ".pt2"}
"""What files of each are called."""
