"""Channels with no kept weight into them or out of them, removed: the same outputs from a smaller graph."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedtiny.export.graph import Add, Clip, Conv, Floats, Graph, Linear, Node

__all__ = ["without_dead"]

Alive = NDArray[np.bool_]


def without_dead(graph: Graph) -> Graph:
    """The graph without its dead channels; its logits are the same.

    A channel that nothing reaches has one value at all places: where that is 0, or where its readers have no padding,
    it goes into their biases, and they no longer read it. (With zero padding another value would be missing at the
    border: such a channel stays.) A channel that nobody reads goes. Channels that are added, pooled, clipped or
    filtered each by itself are so together with their sources. A node keeps one channel at least.
    """
    nodes = _folded(graph)
    alive = _alive(nodes, graph.image)
    return Graph(graph.image, tuple(_cut(node, alive) for node in nodes))


def _folded(graph: Graph) -> list[Node]:
    """The nodes with constant channels moved into the biases of their readers."""
    constants: dict[str, Floats] = {"image": np.full(graph.image[0], np.nan, np.float32)}
    nodes = []
    for node in graph.nodes:
        before = constants[node.inputs[0]]
        operation = node.operation
        if isinstance(operation, Conv | Linear):
            operation = _fold(operation, before)
            constants[node.name] = _constant(operation)
        elif isinstance(operation, Clip):
            constants[node.name] = np.clip(before, np.float32(0), np.float32(operation.most))
        elif isinstance(operation, Add):
            constants[node.name] = before + constants[node.inputs[1]]
        else:
            constants[node.name] = before
        nodes.append(replace(node, operation=operation))
    return nodes


def _fold(operation: Conv | Linear, before: Floats) -> Conv | Linear:
    """The operation not reading channels that are constant, as far as their constants can be in its bias."""
    foldable = ~np.isnan(before)
    if isinstance(operation, Conv) and operation.padding:
        foldable &= before == 0
    weight, value = operation.weight.copy(), np.where(foldable, before, 0).astype(np.float64)
    if isinstance(operation, Conv) and operation.groups > 1:
        moved = weight.sum(axis=(1, 2, 3), dtype=np.float64) * value
        weight[foldable] = 0
    else:
        moved = weight.reshape(*weight.shape[:2], -1).sum(axis=2, dtype=np.float64) @ value
        weight[:, foldable] = 0
    return replace(operation, weight=weight, bias=(operation.bias + moved).astype(np.float32))


def _constant(operation: Conv | Linear) -> Floats:
    """The value of each output channel that reads nothing; NaN of those that read something."""
    reads = operation.weight.reshape(len(operation.weight), -1).any(axis=1)
    return np.where(reads, np.float32(np.nan), operation.bias)


def _alive(nodes: list[Node], image: tuple[int, ...]) -> dict[str, Alive]:
    """Name -> which channels of its output are read, directly or not; all of the picture's and of the logits."""
    alive: dict[str, Alive] = {node.name: np.zeros(node.shape[0], bool) for node in nodes}
    alive["image"] = np.ones(image[0], bool)
    alive[nodes[-1].name][:] = True
    while True:
        before = {name: x.copy() for name, x in alive.items()}
        for node in reversed(nodes):
            _read(node, alive)
        if any((before[name] != x).any() for name, x in alive.items()):
            continue
        if all(x.any() for x in alive.values()):
            return alive
        next(x for x in alive.values() if not x.any())[0] = True


def _free(node: Node) -> bool:
    """Whether a node's output has channels of its own."""
    return isinstance(node.operation, Linear) or (isinstance(node.operation, Conv) and node.operation.groups == 1)


def _read(node: Node, alive: dict[str, Alive]) -> None:
    """Marks what a node reads for the channels of it that are read."""
    if isinstance(node.operation, Conv | Linear) and _free(node):
        weight = node.operation.weight[alive[node.name]]
        alive[node.inputs[0]] |= weight.any(axis=(0, *range(2, weight.ndim)))
        return
    names = (*node.inputs, node.name)
    together = np.logical_or.reduce([alive[name] for name in names])
    for name in names:
        alive[name] |= together


def _cut(node: Node, alive: Mapping[str, Alive]) -> Node:
    """The node with the channels that are alive."""
    inside, outside = alive[node.inputs[0]], alive[node.name]
    operation = node.operation
    if isinstance(operation, Conv | Linear):
        weight = operation.weight[outside]
        if _free(node):
            weight = weight[:, inside]
        weight, bias = np.ascontiguousarray(weight), operation.bias[outside]
        operation = replace(operation, weight=weight, bias=bias)
        if isinstance(operation, Conv) and operation.groups > 1:
            operation = replace(operation, groups=len(weight))
    return replace(node, operation=operation, shape=(int(outside.sum()), *node.shape[1:]))
