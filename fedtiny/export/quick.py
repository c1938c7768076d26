"""What a graph computes, by PyTorch's kernels."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedtiny.export.graph import Add, Clip, Conv, Floats, Graph, Linear, MaxPool, Operation

__all__ = ["operator", "quick"]


def quick(graph: Graph) -> Callable[[Floats], Floats]:
    """The graph as a function: (N, C, H, W) pictures -> (N, classes) logits."""
    operators = [operator(node.operation) for node in graph.nodes]

    def logits(pictures: Floats) -> Floats:
        found = {"image": torch.from_numpy(pictures)}
        with torch.inference_mode():
            for node, operate in zip(graph.nodes, operators, strict=True):
                found[node.name] = operate(*(found[name] for name in node.inputs))
        return np.asarray(found[graph.nodes[-1].name].numpy())

    return logits


def operator(operation: Operation) -> Callable[..., Tensor]:
    """The operation as a function: its inputs, (N, ...) float32 each -> its output, (N, ...) float32."""
    match operation:
        case Conv(_, _, stride, padding, groups):
            weight, bias = torch.from_numpy(operation.weight), torch.from_numpy(operation.bias)
            return lambda x: functional.conv2d(x, weight, bias, stride, padding, 1, groups)
        case Linear():
            weight, bias = torch.from_numpy(operation.weight), torch.from_numpy(operation.bias)
            return lambda x: functional.linear(x, weight, bias)
        case Clip(most):
            return lambda x: x.clamp(0, most)
        case Add():
            return torch.add
        case MaxPool(kernel, stride):
            return lambda x: functional.max_pool2d(x, kernel, stride, ceil_mode=True)
        case _:
            return lambda x: x.mean((2, 3))
