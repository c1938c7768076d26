import shutil
from pathlib import Path

import numpy as np
import pytest

from fedtiny.export.c import compiled, write
from fedtiny.export.graph import Floats, Graph, Linear, MeanPool, Node
from tests.export.c.batched import SANITIZED, batched
from tests.export.c.random_graphs import pictures_for, random_graph
from tests.export.compute import compute


def check_close(found: Floats, expected: Floats, graph: str) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=graph)


@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 80), marks=pytest.mark.slow)], ids=["few", "many"])
def test_float_programs_compute_what_torch_computes_under_sanitizers(tmp_path: Path, seeds: range) -> None:
    graphs = [random_graph(seed) for seed in seeds]
    pictures = [pictures_for(graph, 3) for graph in graphs]
    programs = [write(graph, tmp_path, f"net{i}") for i, graph in enumerate(graphs)]
    found = batched(programs, pictures, tmp_path, "gcc", SANITIZED)
    for i, graph in enumerate(graphs):
        check_close(found[i], compute(graph, pictures[i]), f"random_graph({seeds[i]})")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_two_networks_fit_one_firmware_of_either_compiler_without_a_warning(tmp_path: Path, compiler: str) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}: apt-get install {compiler}")
    graph = random_graph(21)
    pictures = pictures_for(graph, 3)
    programs = [write(graph, tmp_path, "exact"), write(graph, tmp_path, "small", "int8", pictures)]
    exact, small = batched(programs, [pictures, pictures], tmp_path, compiler, ["-O2"])
    expected = compute(graph, pictures)
    check_close(exact, expected, "random_graph(21)")
    np.testing.assert_allclose(small, expected, atol=0.1 * np.abs(expected).max())


def test_a_compiled_program_is_a_function(tmp_path: Path) -> None:
    graph = random_graph(3)
    pictures = pictures_for(graph, 5)
    program = write(graph, tmp_path / "new", "tiny")
    call = compiled(program, tmp_path / "built")
    check_close(call(pictures), compute(graph, pictures), "random_graph(3)")
    assert call(pictures[:0]).shape == (0, program.classes)
    assert (program.image, program.classes) == (graph.image, graph.nodes[-1].shape[0])


def test_what_the_compiler_refuses_is_one_line(tmp_path: Path) -> None:
    program = write(random_graph(0), tmp_path, "net")
    program.source.write_text("int net_logits(void) { return nothing; }\n")
    with pytest.raises(ValueError, match=r"error: .*nothing") as caught:
        compiled(program, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["1st", "a-b", "_a", ""])
def test_a_name_must_be_one_of_c(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="the name of a C program must be"):
        write(random_graph(0), tmp_path, name)


def test_weights_must_be_finite_and_logits_the_end(tmp_path: Path) -> None:
    pool = Node("pool", MeanPool(), ("image",), (1,))
    head = Node("head", Linear(np.full((2, 1), np.nan, np.float32), np.zeros(2, np.float32)), ("pool",), (2,))
    with pytest.raises(ValueError, match="head has a weight that is not"):
        write(Graph((1, 1, 1), (pool, head)), tmp_path)
    with pytest.raises(ValueError, match="the last operation"):
        write(Graph((1, 1, 1), (pool,)), tmp_path)
