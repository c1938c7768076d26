"""The `c` format: a network as one C99 file and its header, for anything with a C compiler."""

from fedtiny.export.c.build import compiled
from fedtiny.export.c.cortex import Sizes, cortex_m_size
from fedtiny.export.c.program import CProgram, write

__all__ = ["CProgram", "Sizes", "compiled", "cortex_m_size", "write"]
