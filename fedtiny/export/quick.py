"""What a graph computes, by PyTorch's kernels: for a whole test set, where `compute` would take minutes."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedtiny.export.graph import Add, Clip, Conv, Floats, Graph, Linear, MaxPool, Operation

__all__ = ["quick"]


def quick(graph: Graph) -> Callable[[Floats], Floats]:
    """(N, C, H, W) pictures -> (N, classes) logits, the same as `compute` but for the order of sums."""
    tensors = {
        node.name: tuple(torch.from_numpy(x) for x in (node.operation.weight, node.operation.bias))
        for node in graph.nodes
        if isinstance(node.operation, Conv | Linear)
    }

    def logits(pictures: Floats) -> Floats:
        found = {"image": torch.from_numpy(pictures)}
        with torch.inference_mode():
            for node in graph.nodes:
                inputs = [found[name] for name in node.inputs]
                found[node.name] = _one(node.operation, inputs, tensors.get(node.name, ()))
        return np.asarray(found[graph.nodes[-1].name].numpy())

    return logits


def _one(operation: Operation, inputs: list[Tensor], tensors: tuple[Tensor, ...]) -> Tensor:
    x = inputs[0]
    match operation:
        case Conv(_, _, stride, padding, groups):
            weight, bias = tensors
            return functional.conv2d(x, weight, bias, stride, padding, 1, groups)
        case Linear():
            weight, bias = tensors
            return functional.linear(x, weight, bias)
        case Clip(most):
            return x.clamp(0, most)
        case Add():
            return x + inputs[1]
        case MaxPool(kernel, stride):
            return functional.max_pool2d(x, kernel, stride, ceil_mode=True)
        case _:
            return x.mean((2, 3))
