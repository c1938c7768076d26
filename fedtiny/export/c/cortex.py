"""Flash and RAM of a program in a Cortex-M, from a linked firmware."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fedtiny.export.c.commands import output_of
from fedtiny.export.c.program import CProgram

__all__ = ["Sizes", "cortex_m_size"]

_PREFIX = "arm-none-eabi-"
_CHIP = ("-mcpu=cortex-m4", "-mthumb")
_FPU = {True: ("-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"), False: ("-mfloat-abi=soft",)}
_FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Os", "-ffunction-sections", "-fdata-sections")
_LINK = ("-nostartfiles", "-Wl,--gc-sections")


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a firmware of this network alone takes.

    Attributes:
        flash_bytes: Code, constants, and the first values of variables.
        ram_bytes: Variables, the arena among them; the stack (under 1 kB) and the caller's picture come on top.
    """

    flash_bytes: int
    ram_bytes: int


def cortex_m_size(program: CProgram, fpu: bool = True) -> Sizes | None:
    """The sizes in a Cortex-M4, or none where `arm-none-eabi-gcc` is missing.

    Args:
        program: What to compile.
        fpu: Whether the chip computes in float32 itself.

    Raises:
        ValueError: The compiler refuses the program, or fails to link it.
    """
    if shutil.which(f"{_PREFIX}gcc") is None:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        main, script, linked = folder / "firmware.c", Path(__file__).with_name("firmware.ld"), folder / "firmware.elf"
        text = Path(__file__).with_name("firmware.c").read_text(encoding="utf-8")
        main.write_text(text.replace("NAME", program.name), encoding="utf-8")
        options = [*_CHIP, *_FPU[fpu], *_FLAGS, *_LINK, "-I", str(program.source.parent), "-T", str(script)]
        output_of([f"{_PREFIX}gcc", *options, "-o", str(linked), str(main), str(program.source)])
        # text, data, bss, ...: what lies in flash, what lies in both, what lies in RAM.
        text_bytes, data_bytes, bss_bytes = map(
            int, output_of([f"{_PREFIX}size", str(linked)]).splitlines()[1].split()[:3]
        )
    return Sizes(text_bytes + data_bytes, data_bytes + bss_bytes)
