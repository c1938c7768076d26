import numpy as np

from fedtiny.export.c.equalise import Range, equalised
from fedtiny.export.c.quanta import ranges_of
from fedtiny.export.c.steps import steps
from fedtiny.export.graph import Clip, Conv, Graph, Linear, MeanPool, Node
from tests.export.c.random_graphs import pictures_for, random_graph


def test_a_channel_is_divided_by_the_root_of_its_share() -> None:
    nodes = (
        Node(
            "conv", Conv(np.array([[[[8.0]]], [[[0.5]]]], np.float32), np.zeros(2, np.float32)), ("image",), (2, 1, 1)
        ),
        Node("relu", Clip(np.inf), ("conv",), (2, 1, 1)),
        Node("mean", MeanPool(), ("relu",), (2,)),
        Node("head", Linear(np.array([[1, 3]], np.float32), np.zeros(1, np.float32)), ("mean",), (1,)),
    )
    made = steps(Graph((1, 1, 1), nodes))
    (conv, _, head), ranges = equalised(made, ranges_of(made, np.ones((1, 1, 1, 1), np.float32)))
    # 8 and 1/2: shares 1 and 1/16, divisors 1 and 1/4.
    assert ranges["relu"].high.tolist() == ranges["mean"].high.tolist() == [8, 2]
    assert isinstance(conv.operation, Conv)
    assert isinstance(head.operation, Conv)
    assert conv.operation.weight.ravel().tolist() == [8, 2]
    assert head.operation.weight.ravel().tolist() == [1, 0.75]
    assert ranges["head"].high.tolist() == [9.5]


def test_what_relu6_clips_stays() -> None:
    nodes = (
        Node(
            "conv", Conv(np.array([[[[8.0]]], [[[0.5]]]], np.float32), np.zeros(2, np.float32)), ("image",), (2, 1, 1)
        ),
        Node("relu6", Clip(6.0), ("conv",), (2, 1, 1)),
        Node("mean", MeanPool(), ("relu6",), (2,)),
        Node("head", Linear(np.array([[1, 3]], np.float32), np.zeros(1, np.float32)), ("mean",), (1,)),
    )
    made = steps(Graph((1, 1, 1), nodes))
    _, ranges = equalised(made, ranges_of(made, np.ones((1, 1, 1, 1), np.float32)))
    assert ranges["relu6"].high.tolist() == [6, 0.5]


def test_logits_stay_the_same_and_ranges_are_what_they_become() -> None:
    moved = 0
    for seed in range(40):
        graph = random_graph(seed)
        pictures = pictures_for(graph, 1)
        made = steps(graph)
        before = ranges_of(made, pictures)
        after, told = equalised(made, before)
        found = ranges_of(after, pictures)
        for name in told:
            check(found[name], told[name], f"random_graph({seed}): {name}")
        check(found[made[-1].name], before[made[-1].name], f"random_graph({seed})")  # of one picture: its logits
        moved += any(not np.allclose(told[name].high, before[name].high) for name in told)
    assert moved > 10


def check(found: Range, expected: Range, where: str) -> None:
    most = max(expected.high.max(), -expected.low.min(), 1e-6)
    np.testing.assert_allclose(found.low, expected.low, atol=1e-4 * most, err_msg=where)
    np.testing.assert_allclose(found.high, expected.high, atol=1e-4 * most, err_msg=where)
