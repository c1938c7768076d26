import shutil
from pathlib import Path

import pytest

from fedtiny.export.c import cortex_m_size, write
from fedtiny.export.c.cortex import Sizes
from fedtiny.export.values import CValues
from tests.export.c.random_graphs import pictures_for, random_graph

needs_arm = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc: apt-get install gcc-arm-none-eabi"
)


@needs_arm
@pytest.mark.parametrize("values", ["float32", "int8"])
def test_a_firmware_is_its_constants_and_little_code_and_ram_its_arena(tmp_path: Path, values: CValues) -> None:
    graph = random_graph(21)
    program = write(graph, tmp_path, "net", values, pictures_for(graph, 4))
    hard, soft = cortex_m_size(program), cortex_m_size(program, fpu=False)
    assert isinstance(hard, Sizes)
    assert isinstance(soft, Sizes)
    beside = hard.ram_bytes - program.arena_bytes
    assert 0 < beside <= 4 * program.classes + 8  # predict's logits, and the class that the firmware keeps
    assert 1000 < hard.flash_bytes < soft.flash_bytes < hard.flash_bytes + 4000  # floats in software


@needs_arm
def test_what_the_compiler_refuses_is_one_line(tmp_path: Path) -> None:
    program = write(random_graph(0), tmp_path, "net")
    program.source.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(ValueError, match=r"error: .*nothing") as caught:
        cortex_m_size(program)
    assert "\n" not in str(caught.value)


def test_without_the_compiler_there_is_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program = write(random_graph(0), tmp_path, "net")
    assert cortex_m_size(program) is None
