from pathlib import Path

import numpy as np
import pytest

from fedtiny.export.c import compiled, write
from fedtiny.export.c.int8 import factors_of, shifts_of, whole
from fedtiny.export.c.quanta import Quanta, quanta_of, ranges_of, spread
from fedtiny.export.c.steps import steps
from fedtiny.export.graph import Clip, Conv, Graph, Linear, MaxPool, MeanPool, Node
from tests.export.c.batched import SANITIZED, batched
from tests.export.c.random_graphs import pictures_for, random_graph
from tests.export.compute import compute


@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 80), marks=pytest.mark.slow)], ids=["few", "many"])
def test_int8_programs_come_near_to_torch_under_sanitizers(tmp_path: Path, seeds: range) -> None:
    graphs = [random_graph(seed) for seed in seeds]
    pictures = [pictures_for(graph, 32) for graph in graphs]
    programs = [write(graph, tmp_path, f"net{i}", "int8", pictures[i]) for i, graph in enumerate(graphs)]
    found = batched(programs, pictures, tmp_path, "gcc", SANITIZED)
    same = []
    for i, graph in enumerate(graphs):
        expected = compute(graph, pictures[i])
        error = np.sqrt(np.mean((found[i] - expected) ** 2)) / np.abs(expected).max()
        assert error < 0.03, f"random_graph({seeds[i]})"
        same.append(found[i].argmax(1) == expected.argmax(1))
    assert np.mean(same) > 0.97


def test_a_byte_covers_what_was_seen_and_0() -> None:
    assert spread(0.0, 1.0) == Quanta(1 / 255, 0)
    assert spread(0.5, 1.0) == Quanta(1 / 255, 0)
    assert spread(-1.0, 1.0) == Quanta(2 / 255, 128)
    assert spread(-3.0, -1.0) == Quanta(3 / 255, 255)
    assert spread(0.0, 0.0) == Quanta(1.0, 0)
    quanta = spread(-1.0, 4.1)
    assert [quanta.byte(value) for value in (-np.inf, -1.0, 0.0, 0.02, 4.1, np.inf)] == [0, 0, 50, 51, 255, 255]


def test_a_pool_of_maxima_keeps_the_bytes_of_its_input() -> None:
    linear = Linear(np.ones((1, 1), np.float32), np.zeros(1, np.float32))
    nodes = (
        Node("most", MaxPool(2, 2), ("image",), (1, 1, 1)),
        Node("relu", Clip(0.5), ("most",), (1, 1, 1)),
        Node("mean", MeanPool(), ("relu",), (1,)),
        Node("head", linear, ("mean",), (1,)),
    )
    graph = Graph((1, 2, 2), nodes)
    picture = np.array([[[[-1, 0], [0.25, 1]]]], np.float32)
    quanta = quanta_of(steps(graph), ranges_of(steps(graph), picture))
    assert quanta["image"] == quanta["most"] == Quanta(2 / 255, 128)
    assert quanta["relu"] == Quanta(0.5 / 255, 0)


def test_each_output_has_a_scale_of_its_own() -> None:
    weight = np.array([[1.27, 0.014], [0, 0], [0, 0], [-254, 1]], np.float32)[:, :, None, None]
    layer = whole("conv", Conv(weight, np.array([0.1, 0, 2, 0], np.float32)), Quanta(0.5, 0))
    np.testing.assert_array_equal(layer.weight.reshape(4, 2), [[127, 1], [0, 0], [0, 0], [-127, 0]])
    np.testing.assert_allclose(layer.scales, [0.005, 0, 0, 1])  # 0.5 * 1.27 / 127


def test_factors_are_the_ratios_times_65536() -> None:
    ratios = np.array([0.37, 1e-2, 0.0])
    factors, shift = factors_of(ratios, 16)
    assert 2**15 <= factors[0] < 2**16
    np.testing.assert_allclose(factors / 2.0**shift, ratios * 65536, rtol=1e-3)
    assert factors_of(np.array([1e9]), 16)[0].tolist() == [2**16 - 1]  # saturated: the byte is at its end anyway


def test_a_layers_bias_shares_a_shift() -> None:
    shifts, shift = shifts_of(np.array([4.0, -0.5, 0.0]))  # quanta: 4 * 65536 = 2**18 is too much for 15 bits
    assert (shifts.tolist(), shift) == ([16384, -2048, 0], 4)
    assert shifts_of(np.zeros(2))[1] == 0


def test_int8_asks_for_pictures(tmp_path: Path) -> None:
    graph = random_graph(0)
    for calibration in (None, pictures_for(graph, 0)):
        with pytest.raises(ValueError, match="must be calibrated on at least one picture"):
            write(graph, tmp_path, "net", "int8", calibration)


def test_sums_beyond_32_bits_are_refused() -> None:
    conv = Conv(np.ones((1, 70_000, 1, 1), np.float32), np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="within 32 bits; those of conv can leave them"):
        whole("conv", conv, Quanta(1.0, 0))


def test_8_bit_pictures_are_taken_exactly_and_any_float_is_safe(tmp_path: Path) -> None:
    linear = Linear(np.array([[1.0]], np.float32), np.array([0.0], np.float32))
    nodes = (Node("mean", MeanPool(), ("image",), (1,)), Node("head", linear, ("mean",), (1,)))
    graph = Graph((1, 1, 1), nodes)
    pictures = (np.arange(256) / 255).astype(np.float32).reshape(-1, 1, 1, 1)
    call = compiled(write(graph, tmp_path, "net", "int8", pictures), tmp_path)
    np.testing.assert_allclose(call(pictures)[:, 0], pictures.ravel(), atol=1e-6)
    wild = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30], np.float32).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(call(wild)[:, 0], [0, 1, 0, 1, 0], atol=1e-6)


def test_outputs_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    huge = Conv(np.full((1, 1, 1, 1), 1e30, np.float32), np.zeros(1, np.float32))
    nodes = [Node("a", huge, ("image",), (1, 2, 2)), Node("b", huge, ("a",), (1, 2, 2))]
    nodes += [Node("pool", MeanPool(), ("b",), (1,))]
    nodes += [Node("head", Linear(np.ones((2, 1), np.float32), np.zeros(2, np.float32)), ("pool",), (2,))]
    with pytest.raises(ValueError, match="finite outputs, those of b are not"):
        write(Graph((1, 2, 2), tuple(nodes)), tmp_path, "net", "int8", np.ones((1, 1, 2, 2), np.float32))
