"""The steps of the program: a graph's operations, with clips and sums folded into the step before them."""

from collections import Counter
from dataclasses import dataclass, replace
from math import inf

from fedtiny.export.graph import Add, Clip, Conv, Graph, Linear, MaxPool, MeanPool, Node, Shape

__all__ = ["Step", "steps"]


@dataclass(frozen=True, slots=True)
class Step:
    """What is computed in one go.

    Attributes:
        name: Of the node whose output it leaves.
        operation: A linear layer is a convolution over one pixel; a clip of its own is an Add of one input.
        x: Name of its input.
        also: Name of a second input of `shape`, which is added before the clip; or none.
        low: Least value of its output.
        high: Greatest value of its output.
        shape: Of its output, (channels, height, width).
        reads: Shape of `x`, the same.
    """

    name: str
    operation: Conv | Add | MaxPool | MeanPool
    x: str
    also: str | None
    low: float
    high: float
    shape: tuple[int, int, int]
    reads: tuple[int, int, int]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what it reads."""
        return (self.x,) if self.also is None else (self.x, self.also)

    @property
    def depthwise(self) -> bool:
        """Whether each channel of the output is made of the same channel of the input alone."""
        return isinstance(self.operation, Conv) and self.operation.groups == self.shape[0] == self.reads[0]


def steps(graph: Graph) -> tuple[Step, ...]:
    """The graph's steps, in order; the last one leaves the logits.

    Raises:
        ValueError: The last node is no linear layer: its outputs would be no logits.
    """
    if not graph.nodes or not isinstance(graph.nodes[-1].operation, Linear):
        raise ValueError("the last operation of a network for C must be a linear layer")
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    made: list[Step] = []
    for node in graph.nodes:
        _append(made, node, graph, uses)
    return tuple(made)


def _append(made: list[Step], node: Node, graph: Graph, uses: Counter[str]) -> None:
    """Adds the node as a step, or folds it into the step that made its input."""
    operation, last = node.operation, made[-1] if made else None
    free = (
        last is not None and last.name in node.inputs and uses[last.name] == 1 and (last.low, last.high) == (-inf, inf)
    )
    if isinstance(operation, Clip):
        if last is not None and free and isinstance(last.operation, Conv | Add):
            made[-1] = replace(last, name=node.name, low=0.0, high=operation.most)
        else:
            made.append(_step(node, Add(), graph, low=0.0, high=operation.most))
    elif isinstance(operation, Add):
        # A convolution starts from what it is added to: one buffer less, and no pass over the sum.
        if last is not None and free and isinstance(last.operation, Conv) and last.also is None:
            other = node.inputs[1 - node.inputs.index(last.name)]
            made[-1] = replace(last, name=node.name, also=other)
        else:
            made.append(_step(node, operation, graph))
    elif isinstance(operation, Linear):
        weight = operation.weight[:, :, None, None]
        made.append(_step(node, Conv(weight, operation.bias), graph))
    else:
        made.append(_step(node, operation, graph))


def _step(
    node: Node, operation: Conv | Add | MaxPool | MeanPool, graph: Graph, low: float = -inf, high: float = inf
) -> Step:
    x, also = node.inputs[0], node.inputs[1] if len(node.inputs) == 2 else None
    return Step(node.name, operation, x, also, low, high, _planes(node.shape), _planes(graph.shapes[x]))


def _planes(shape: Shape) -> tuple[int, int, int]:
    """(C, H, W) or (C,) as (C, H, W)."""
    if len(shape) == 1:
        return shape[0], 1, 1
    channels, height, width = shape
    return channels, height, width
