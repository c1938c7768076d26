"""What the weights of an exported network are written as; light, so that configuration and command line can name it."""

from typing import Literal

__all__ = ["CValues", "Values"]

Values = Literal["float32", "float16", "int8"]

CValues = Literal["float32", "int8"]
"""Those that a C program computes with."""
