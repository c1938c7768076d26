"""Budgets are met by what is measured: programs of trained networks, as the Cortex-M compiler makes them."""

import shutil
from pathlib import Path

import pytest

from fedtiny.config.load import load
from fedtiny.export.c import cortex_m_size, write
from fedtiny.export.c.cortex import Sizes
from fedtiny.export.trace import trace
from fedtiny.export.values import CValues
from fedtiny.prepare import prepare
from fedtiny.run import run
from fedtiny.server.model_file import load_model
from fedtiny.sparse.network import load_
from tests.conftest import SMOKE
from tests.export.networks import pictures


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc")
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
    took = cortex_m_size(write(graph, tmp_path, "net", values, pictures(8, (1, 8, 8), 0)))
    assert isinstance(took, Sizes)
    assert took.flash_bytes <= flash
    assert took.ram_bytes <= ram
    # One of them is nearly used up, or the network is unpruned.
    assert prepared.config.method.target == 1 or took.flash_bytes > 0.75 * (flash - 1500) or took.ram_bytes > 0.5 * ram
