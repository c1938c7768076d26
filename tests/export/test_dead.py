"""Dead channels, by hand: two convolutions of one pixel each, a residual, a border."""

import numpy as np

from fedtiny.export.dead import without_dead
from fedtiny.export.graph import Add, Clip, Conv, Graph, Linear, MeanPool, Node
from tests.export.compute import compute


def conv(weight: object, bias: object, padding: int = 0) -> Conv:
    return Conv(np.asarray(weight, np.float32), np.asarray(bias, np.float32), 1, padding)


def pointwise(rows: list[list[float]], bias: list[float]) -> Conv:
    return conv(np.asarray(rows)[:, :, None, None], bias)


def head(rows: list[list[float]]) -> Linear:
    return Linear(np.asarray(rows, np.float32), np.zeros(len(rows), np.float32))


def test_a_channel_without_inputs_goes_into_the_next_bias_and_one_without_outputs_goes() -> None:
    graph = Graph(
        (1, 2, 2),
        (
            # Channel 0 reads the picture; 1 is 3 everywhere; 2 is read by nobody.
            Node("a", pointwise([[2], [0], [5]], [1, 3, 0]), ("image",), (3, 2, 2)),
            Node("relu", Clip(float("inf")), ("a",), (3, 2, 2)),
            Node("b", pointwise([[1, 10, 0], [4, 0, 0]], [0, 0.5]), ("relu",), (2, 2, 2)),
            Node("pool", MeanPool(), ("b",), (2,)),
            Node("head", head([[1, 1]]), ("pool",), (1,)),
        ),
    )
    small = without_dead(graph)
    first, last = small.nodes[0].operation, small.nodes[2].operation
    assert isinstance(first, Conv)
    assert isinstance(last, Conv)
    assert first.weight.ravel().tolist() == [2]
    assert last.weight.ravel().tolist() == [1, 4]
    assert last.bias.tolist() == [30, 0.5]  # 10 * relu(3)
    images = np.full((1, 1, 2, 2), 0.25, np.float32)
    # relu(2 * 0.25 + 1) = 1.5; (1.5 + 30) + (6 + 0.5)
    assert compute(small, images).tolist() == compute(graph, images).tolist() == [[38]]


def test_a_constant_that_padding_would_cut_off_stays_unless_it_is_zero() -> None:
    ones = np.ones((1, 2, 3, 3))
    for bias, left in ((0.5, 2), (-0.5, 1)):  # behind the ReLU, 0.5 and 0
        graph = Graph(
            (1, 2, 2),
            (
                Node("a", pointwise([[1], [0]], [0, bias]), ("image",), (2, 2, 2)),
                Node("relu", Clip(float("inf")), ("a",), (2, 2, 2)),
                Node("b", conv(ones, [0], padding=1), ("relu",), (1, 2, 2)),
                Node("pool", MeanPool(), ("b",), (1,)),
            ),
        )
        small = without_dead(graph)
        assert small.nodes[0].shape[0] == left
        images = np.ones((1, 1, 2, 2), np.float32)
        assert compute(small, images).tolist() == compute(graph, images).tolist()


def test_channels_that_are_added_go_together() -> None:
    graph = Graph(
        (1, 2, 2),
        (
            Node("a", pointwise([[1], [1], [1]], [0, 0, 0]), ("image",), (3, 2, 2)),
            # Reads channel 1 of `a` alone; nothing of what it makes in channel 2 is read.
            Node("b", pointwise([[0, 1, 0]] * 3, [0, 0, 0]), ("a",), (3, 2, 2)),
            Node("sum", Add(), ("a", "b"), (3, 2, 2)),
            Node("pool", MeanPool(), ("sum",), (3,)),
            Node("head", head([[1, 0, 0]]), ("pool",), (1,)),
        ),
    )
    small = without_dead(graph)
    # Channel 0 is read at the end, channel 1 of `a` by `b`, hence both of them on all sides of the sum.
    assert [node.shape[0] for node in small.nodes] == [2, 2, 2, 2, 1]


def test_a_network_of_which_nothing_is_left_still_answers() -> None:
    graph = Graph(
        (2, 3, 3),
        (
            Node("a", pointwise([[0, 0], [0, 0]], [1, 2]), ("image",), (2, 3, 3)),
            Node("pool", MeanPool(), ("a",), (2,)),
            Node("head", head([[1, 1], [1, -1], [0, 0]]), ("pool",), (3,)),
        ),
    )
    small = without_dead(graph)
    assert [node.shape for node in small.nodes] == [(1, 3, 3), (1,), (3,)]
    assert compute(small, np.zeros((2, 2, 3, 3), np.float32)).tolist() == [[3, -1, 0]] * 2
