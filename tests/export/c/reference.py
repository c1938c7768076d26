"""What a graph computes, according to torch."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from fedtiny.export.graph import Add, Clip, Conv, Floats, Graph, Linear, MaxPool, MeanPool, Operation

__all__ = ["logits", "outputs"]


def logits(graph: Graph, pictures: Floats) -> Floats:
    """(N, C, H, W) -> (N, classes)."""
    return outputs(graph, pictures)[graph.nodes[-1].name]


def outputs(graph: Graph, pictures: Floats) -> Mapping[str, Floats]:
    """Name -> (N, *shape) of each node."""
    known = {"image": torch.from_numpy(pictures)}
    for node in graph.nodes:
        known[node.name] = _output(node.operation, *(known[name] for name in node.inputs))
        assert known[node.name].shape[1:] == node.shape, node.name
    return {name: value.numpy() for name, value in known.items()}


def _output(operation: Operation, x: Tensor, also: Tensor | None = None) -> Tensor:
    match operation:
        case Conv(weight, bias, stride, padding, groups):
            return F.conv2d(x, torch.from_numpy(weight), torch.from_numpy(bias), stride, padding, 1, groups)
        case Linear(weight, bias):
            return F.linear(x, torch.from_numpy(weight), torch.from_numpy(bias))
        case Clip(most):
            return x.clamp(0, most)
        case Add():
            assert also is not None
            return x + also
        case MaxPool(kernel, stride):
            return F.max_pool2d(x, kernel, stride, ceil_mode=True)
        case MeanPool():
            return x.mean((2, 3))
