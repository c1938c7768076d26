"""A program is never larger than was foreseen, and not much smaller."""

import shutil
from pathlib import Path

import pytest

from fedtiny.export.c import cortex_m_size, write
from fedtiny.export.c.cortex import Sizes
from fedtiny.export.c.footprint import footprint
from fedtiny.export.trace import trace
from fedtiny.export.values import CValues
from fedtiny.models.zoo import AnyModel, ResNet8
from tests.export.networks import FAMILIES, pictures, pruned

needs_arm = pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc")


def held(tmp_path: Path, model: AnyModel, classes: int, density: float, values: CValues) -> None:
    """Holds what was foreseen against the linked firmware."""
    graph = trace(pruned(model, 3, classes, density, 2), (3, 16, 16), (0.5,), (0.5,))
    took = cortex_m_size(write(graph, tmp_path, "net", values, pictures(8, (3, 16, 16), 0)))
    assert isinstance(took, Sizes)
    foreseen = footprint(graph, values)
    least = 0.85 if values == "float32" else 0.6  # rounding makes zeros of small weights
    assert least * (foreseen.flash - 1500) <= took.flash_bytes <= foreseen.flash
    assert 0.9 * (foreseen.ram - 64) <= took.ram_bytes <= foreseen.ram


@needs_arm
@pytest.mark.parametrize("values", ["float32", "int8"])
@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: f"{model.name}-{model.normalisation}")
def test_a_firmware_for_cortex_m_is_no_larger_than_was_foreseen(
    tmp_path: Path, model: AnyModel, values: CValues
) -> None:
    for density in (0.02, 0.2, 1.0):
        held(tmp_path, model, 10, density, values)


@needs_arm
@pytest.mark.parametrize("values", ["float32", "int8"])
@pytest.mark.parametrize("classes", [1, 1000])
def test_nor_with_few_or_many_classes(tmp_path: Path, classes: int, values: CValues) -> None:
    held(tmp_path, ResNet8(width=3), classes, 0.1, values)
