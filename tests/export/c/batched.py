"""Several programs in one executable, which reads pictures from files and writes logits."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedtiny.export.c import CProgram
from fedtiny.export.graph import Floats

__all__ = ["SANITIZED", "STRICT", "batched"]

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
SANITIZED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
_ONE = """
static int run_{name}(const char *images, const char *out)
{{
    static float image[{pixels}], logits[{classes}];
    FILE *in = fopen(images, "rb"), *to = fopen(out, "wb");
    if (!in || !to)
        return 1;
    while (fread(image, sizeof image, 1, in) == 1) {{
        int i, class = {name}_predict(image);
        {name}_logits(image, logits);
        for (i = 0; i < {classes}; i++)
            if (logits[i] > logits[class])
                return 2;
        fwrite(logits, sizeof logits, 1, to);
    }}
    return fclose(in) || fclose(to);
}}
"""


def batched(
    programs: Sequence[CProgram], pictures: Sequence[Floats], folder: Path, compiler: str, flags: Sequence[str]
) -> list[Floats]:
    """The logits of each program for its pictures, all compiled as one firmware with the strict flags and `flags`."""
    lines = ["#include <stdio.h>", *(f'#include "{program.name}.h"' for program in programs)]
    calls = []
    for program, images in zip(programs, pictures, strict=True):
        pixels = int(np.prod(program.image))
        lines.append(_ONE.format(name=program.name, pixels=pixels, classes=program.classes))
        images.tofile(folder / f"{program.name}.in")
        calls.append(f'run_{program.name}("{program.name}.in", "{program.name}.out")')
    lines.append(f"int main(void)\n{{\n    return {' || '.join(calls)};\n}}\n")
    (folder / "main.c").write_text("\n".join(lines))
    sources = [f"{program.name}.c" for program in programs]
    _ran([compiler, *STRICT, *flags, "-o", "firmware", "main.c", *sources], folder)
    _ran(["./firmware"], folder)
    return [np.fromfile(folder / f"{p.name}.out", np.float32).reshape(-1, p.classes) for p in programs]


def _ran(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.returncode, done.stderr[-3000:])
