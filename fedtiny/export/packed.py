"""Packed networks as graphs: `pack` writes the bytes, `unpack` reads them, and this checks that they make sense."""

import math
from typing import Any

from fedtiny.export import unpack as reader
from fedtiny.export.graph import Add, Clip, Conv, Graph, Linear, MaxPool, MeanPool, Node, Operation, Shape

__all__ = ["unpack"]

_LARGEST = 2**28  # numbers that a picture may make on its way: 1 GiB in float32


def unpack(data: bytes) -> tuple[Graph, tuple[str, ...]]:
    """The graph, its nodes named by their numbers, and the classes' names.

    Raises:
        ValueError: This is no packed network, a damaged one, or one that cannot be computed.
    """
    image, classes, nodes = reader.unpack(data)
    names, shapes = ["image"], [Shape(image)]
    made: list[Node] = []
    if not 0 < (total := math.prod(image)) <= _LARGEST:
        raise ValueError(f"a picture must have between 1 and {_LARGEST} pixels, not be {image}")
    for n, node in enumerate(nodes, 1):
        operation, inputs = _operation(node), [shapes[i] for i in node["inputs"]]
        try:
            shape = operation.shape(inputs)
        except ValueError as error:
            raise ValueError(f"node {n}: {error}") from None
        total += math.prod(shape)
        if not math.prod(shape) or total > _LARGEST:
            raise ValueError(
                f"node {n}: nodes must make 1 number or more, {_LARGEST} together at most, not {shape} here"
            )
        names.append(f"{n}")
        shapes.append(shape)
        made.append(Node(names[n], operation, tuple(names[i] for i in node["inputs"]), shape))
    if len(classes) != shapes[-1][0] or len(shapes[-1]) != 1:
        raise ValueError(f"the last node must make a logit for each of {len(classes)} classes, not {shapes[-1]}")
    return Graph(image, tuple(made)), tuple(classes)


def _operation(node: dict[str, Any]) -> Operation:
    match node["op"]:
        case "conv" | "depthwise":
            groups = len(node["weight"]) if node["op"] == "depthwise" else 1
            return Conv(node["weight"], node["bias"], node["stride"], node["padding"], groups)
        case "linear":
            return Linear(node["weight"], node["bias"])
        case "clip":
            return Clip(float(node["most"] or "inf"))
        case "add":
            return Add()
        case "max_pool":
            if not node["kernel"]:
                raise ValueError("maxima must be over a window of a pixel or more")
            return MaxPool(node["kernel"], node["stride"])
        case _:
            return MeanPool()
