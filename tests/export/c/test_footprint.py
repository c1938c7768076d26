"""A program is never larger than was foreseen, and not much smaller."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fedtiny.export.c import CValues, write
from fedtiny.export.c.footprint import footprint
from fedtiny.export.trace import trace
from fedtiny.models.zoo import AnyModel
from tests.export.networks import FAMILIES, pictures, pruned

ARM = shutil.which("arm-none-eabi-gcc")


@pytest.mark.skipif(ARM is None, reason="needs arm-none-eabi-gcc")
@pytest.mark.parametrize("values", ["float32", "int8"])
@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: f"{model.name}-{model.normalisation}")
def test_a_program_for_cortex_m_is_no_larger_than_was_foreseen(
    tmp_path: Path, model: AnyModel, values: CValues
) -> None:
    for density in (0.02, 0.2, 1.0):
        graph = trace(pruned(model, 3, 10, density, 2), (3, 16, 16), (0.5,), (0.5,))
        program = write(graph, tmp_path, "net", values, pictures(8, (3, 16, 16), 0))
        subprocess.run(
            [
                ARM or "",
                "-std=c99",
                "-mcpu=cortex-m4",
                "-mthumb",
                "-O2",
                "-c",
                program.source,
                "-o",
                tmp_path / "net.o",
            ],
            check=True,
        )
        told = subprocess.run(
            ["arm-none-eabi-size", tmp_path / "net.o"], check=True, capture_output=True, text=True
        ).stdout
        text, data, bss = map(int, told.splitlines()[1].split()[:3])
        foreseen = footprint(graph, values)
        least = 0.85 if values == "float32" else 0.6  # rounding makes zeros of small weights
        assert least * (foreseen.flash - 1500) <= text + data <= foreseen.flash
        assert 0.9 * (foreseen.ram - 64) <= data + bss <= foreseen.ram
