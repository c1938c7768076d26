"""Budgets are met by what is measured: programs of trained networks, as the Cortex-M compiler makes them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fedtiny.config.load import load
from fedtiny.export.c import CValues, write
from fedtiny.export.trace import trace
from fedtiny.prepare import prepare
from fedtiny.run import run
from fedtiny.server.model_file import load_model
from fedtiny.sparse.network import load_
from tests.conftest import SMOKE
from tests.export.networks import pictures

ARM = shutil.which("arm-none-eabi-gcc")


def measured(source: Path) -> tuple[int, int]:
    """Bytes of flash and of RAM on a Cortex-M4."""
    compiled = source.with_suffix(".o")
    flags = ["-std=c99", "-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-Os"]
    subprocess.run([ARM or "", *flags, "-c", source, "-o", compiled], check=True)
    told = subprocess.run(["arm-none-eabi-size", compiled], check=True, capture_output=True, text=True).stdout
    text, data, bss = map(int, told.splitlines()[1].split()[:3])
    return text + data, data + bss


@pytest.mark.skipif(ARM is None, reason="needs arm-none-eabi-gcc")
@pytest.mark.parametrize("values", ["float32", "int8"])
@pytest.mark.parametrize(("flash", "ram"), [(6_000, 4_000), (9_000, 1_200), (14_000, 4_000)])
def test_a_trained_networks_program_fits(tmp_path: Path, values: CValues, flash: int, ram: int) -> None:
    """With its dead channels, which leave before an export; so it takes more here than it would."""
    budget = f"budget={{flash_bytes: {flash}, ram_bytes: {ram}, values: {values}}}"
    overrides = [budget, "model.width=8", "rounds=2", "method.stop_round=2", "pretraining.epochs=1", "engine=dense"]
    prepared = prepare(load([SMOKE], overrides))
    run(prepared, tmp_path)
    weights, _, _ = load_model(tmp_path / "model.safetensors")
    load_(prepared.network.module, weights)
    graph = trace(prepared.network.module.eval(), prepared.network.input_shape, (0.5,), (0.5,))
    took_flash, took_ram = measured(write(graph, tmp_path, "net", values, pictures(8, (1, 8, 8), 0)).source)
    assert took_flash <= flash
    assert took_ram <= ram
    # One of them is nearly used up, or the network is unpruned.
    assert prepared.config.method.target == 1 or took_flash > 0.75 * (flash - 1500) or took_ram > 0.5 * ram
