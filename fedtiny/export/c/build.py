"""Compiles a program for this machine, and calls it."""

import ctypes
import hashlib
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fedtiny.export.c.commands import output_of
from fedtiny.export.c.program import CProgram
from fedtiny.export.graph import Floats

__all__ = ["c_compiler", "compiled"]

_FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-O3", "-shared", "-fPIC")


def c_compiler() -> list[str]:
    """The command of this machine's C compiler: that of the environment's CC, else cc, gcc or clang.

    Raises:
        ValueError: There is none.
    """
    named = shlex.split(os.environ.get("CC", ""))
    for command in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(command[0]):
            return command
    looked = named[0] if named else "cc, gcc and clang"
    raise ValueError(f"no C compiler (looked for {looked}); install one, for example: apt-get install gcc")


def compiled(program: CProgram, folder: Path) -> Callable[[Floats], Floats]:
    """The program as a function of this process: (N, C, H, W) float32 pictures -> (N, classes) float32 logits.

    Args:
        program: What to compile.
        folder: Where the library is put; one of the same source is used again.

    Raises:
        ValueError: There is no compiler, or it refuses the program.
    """
    digest = hashlib.sha256(program.source.read_bytes()).hexdigest()[:16]
    library = folder / f"{program.name}-{digest}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = library.with_suffix(f".{os.getpid()}")
        output_of([*c_compiler(), *_FLAGS, "-o", str(partial), str(program.source)])
        partial.replace(library)
    function = getattr(ctypes.CDLL(str(library)), f"{program.name}_logits")
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p], None

    def logits(pictures: Floats) -> Floats:
        assert pictures.shape[1:] == program.image, (pictures.shape, program.image)
        images = np.ascontiguousarray(pictures, np.float32)
        out = np.zeros((len(images), program.classes), np.float32)
        for image, row in zip(images, out, strict=True):
            function(image.ctypes.data, row.ctypes.data)
        return out

    return logits
