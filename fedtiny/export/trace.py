"""A trained network as a graph: batch norm folded into the convolutions, pruned weights exactly 0."""

import operator
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, fx, nn

from fedtiny.export.graph import Add, Clip, Conv, Floats, Graph, Linear, MaxPool, MeanPool, Node, Operation
from fedtiny.models.normalised import NormalisedConv2d, normalise

__all__ = ["trace"]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)


def trace(module: nn.Module, image: tuple[int, int, int], mean: Sequence[float], std: Sequence[float]) -> Graph:
    """The network in evaluation mode, as a graph that takes pixels between 0 and 1.

    The first node, `normalise`, is a convolution of each channel with 1 / std and -mean / std: it is not folded into
    the next, whose zero padding comes after it.

    Args:
        module: The network, its weights masked; what it is made of must be among the operations of a `Graph`.
        image: (channels, height, width) of a picture.
        mean: One a channel, or one for all.
        std: Likewise.

    Raises:
        TypeError: The network has a layer that a graph has no operation for.
    """
    channels = image[0]
    scale = 1 / np.broadcast_to(np.asarray(std, np.float64), channels)
    shift = -np.broadcast_to(np.asarray(mean, np.float64), channels) * scale
    first = Conv(_floats(scale).reshape(channels, 1, 1, 1), _floats(shift), groups=channels)
    nodes = {"normalise": Node("normalise", first, ("image",), image)}
    where: dict[fx.Node, str] = {}
    for step in _Tracer().trace(module).nodes:
        if step.op == "placeholder":
            where[step] = "normalise"
        elif step.op == "output":
            break
        else:
            inputs = [where[x] for x in step.all_input_nodes]
            child = module.get_submodule(str(step.target)) if step.op == "call_module" else None
            name = str(step.target) if isinstance(child, nn.Conv2d | nn.Linear) else step.name
            where[step] = _place(nodes, name, child if child is not None else step.target, inputs)
    return Graph(image, tuple(nodes.values()))


def _floats(values: object) -> Floats:
    return np.ascontiguousarray(values, dtype=np.float32)


def _place(nodes: dict[str, Node], name: str, what: object, inputs: list[str]) -> str:
    """Adds the node that does `what`, if there is anything to do; the name of the node that has the result."""
    before = nodes[inputs[0]]
    if isinstance(what, nn.Identity) or what in ("flatten", torch.flatten):
        return before.name
    if isinstance(what, nn.BatchNorm2d):
        assert isinstance(before.operation, Conv)
        nodes[before.name] = replace(before, operation=_folded(before.operation, what))
        return before.name
    operation = _operation(what)
    nodes[name] = Node(name, operation, tuple(inputs), operation.shape([nodes[x].shape for x in inputs]))
    return name


def _operation(what: object) -> Operation:
    """The operation of a module or function."""
    if isinstance(what, nn.Conv2d):
        weight = what.weight.detach()
        if isinstance(what, NormalisedConv2d):
            weight = normalise(weight, what.gain.detach(), what.keep)
        bias = torch.zeros(len(weight)) if what.bias is None else what.bias.detach()
        return Conv(
            _floats(weight.numpy()), _floats(bias.numpy()), int(what.stride[0]), int(what.padding[0]), what.groups
        )
    if isinstance(what, nn.Linear):
        bias = torch.zeros(what.out_features) if what.bias is None else what.bias.detach()
        return Linear(_floats(what.weight.detach().numpy()), _floats(bias.numpy()))
    if isinstance(what, nn.ReLU6):
        return Clip(6.0)
    if isinstance(what, nn.ReLU):
        return Clip(float("inf"))
    if isinstance(what, nn.MaxPool2d):
        assert isinstance(what.kernel_size, int)
        assert isinstance(what.stride, int)
        return MaxPool(what.kernel_size, what.stride)
    if isinstance(what, nn.AdaptiveAvgPool2d):
        return MeanPool()
    if what in (operator.add, torch.add):
        return Add()
    raise TypeError(f"a graph has no operation for {what!r}")


def _folded(conv: Conv, norm: nn.BatchNorm2d) -> Conv:
    """Batch norm in the weights: w' = w g, b' = beta + (b - mean) g with g = gamma / sqrt(var + eps); 0 stays 0."""

    def wide(x: Tensor | None) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        assert x is not None
        return x.detach().double().numpy()

    scale = wide(norm.weight) / np.sqrt(wide(norm.running_var) + norm.eps)
    bias = wide(norm.bias) + (conv.bias - wide(norm.running_mean)) * scale
    return replace(conv, weight=_floats(conv.weight * scale[:, None, None, None]), bias=_floats(bias))
