import numpy as np
import pytest

from fedtiny.export.c.arena import arranged, buffers
from fedtiny.export.c.steps import steps
from fedtiny.export.graph import Add, Clip, Conv, Floats, Graph, Linear, MeanPool, Node
from tests.export.c.random_graphs import random_graph


def zeros(*shape: int) -> Floats:
    return np.zeros(shape, np.float32)


def conv(name: str, x: str, channels: int, outputs: int) -> Node:
    return Node(name, Conv(zeros(outputs, channels, 3, 3), zeros(outputs), 1, 1), (x,), (outputs, 4, 4))


def head(x: str) -> list[Node]:
    return [
        Node("pool", MeanPool(), (x,), (2,)),
        Node("head", Linear(zeros(3, 2), zeros(3)), ("pool",), (3,)),
    ]


def test_a_chain_needs_two_buffers_and_the_picture_none() -> None:
    graph = Graph((1, 4, 4), (conv("a", "image", 1, 8), conv("b", "a", 8, 2), conv("c", "b", 2, 2), *head("c")))
    # a and b live at once; the picture and the logits are the caller's.
    assert arranged(buffers(steps(graph), 4)).nbytes == 4 * (8 + 2) * 16


def test_a_residual_block_is_summed_where_its_input_lies() -> None:
    block = [conv("a", "stem", 2, 2), conv("b", "a", 2, 2), Node("add", Add(), ("b", "stem"), (2, 4, 4))]
    graph = Graph(
        (1, 4, 4), (conv("stem", "image", 1, 2), *block, Node("relu", Clip(6.0), ("add",), (2, 4, 4)), *head("relu"))
    )
    made = steps(graph)
    assert [step.name for step in made] == ["stem", "a", "relu", "pool", "head"]
    assert (made[2].also, made[2].low, made[2].high) == ("stem", 0.0, 6.0)
    arena = arranged(buffers(made, 4))
    assert arena.nbytes == 4 * 2 * 2 * 16
    assert arena.offsets["relu"] == arena.offsets["stem"] != arena.offsets["a"]


def test_a_depthwise_convolution_writes_over_its_input_by_way_of_one_plane() -> None:
    deep = Node("deep", Conv(zeros(2, 1, 3, 3), zeros(2), 2, 1, 2), ("stem",), (2, 2, 2))
    graph = Graph((1, 4, 4), (conv("stem", "image", 1, 2), deep, *head("deep")))
    arena = arranged(buffers(steps(graph), 4))
    assert arena.offsets["stem"] == arena.offsets["deep"]
    assert arena.nbytes == 4 * (2 * 16 + 2 * 2)


@pytest.mark.parametrize("width", [1, 4])
def test_what_lives_at_once_lies_apart(width: int) -> None:
    for seed in range(60):
        held = buffers(steps(random_graph(seed)), 1 if width == 1 else 4)
        arena = arranged(held)
        for i, one in enumerate(held):
            at = arena.offsets[one.names[0]]
            assert at % 4 == 0
            assert at + one.nbytes <= arena.nbytes
            for other in held[:i]:
                start = arena.offsets[other.names[0]]
                apart = at + one.nbytes <= start or start + other.nbytes <= at
                assert apart or one.last < other.first or other.last < one.first, (seed, one, other)
