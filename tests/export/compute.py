"""What a graph computes, in plain NumPy: the reference that exported networks are held against."""

import numpy as np

from fedtiny.export.graph import Add, Clip, Conv, Floats, Graph, Linear, MaxPool, MeanPool, Node

__all__ = ["compute", "outputs"]


def compute(graph: Graph, images: Floats) -> Floats:
    """(N, C, H, W) pictures, float32 in [0, 1] -> (N, classes) logits."""
    return outputs(graph, images)[graph.nodes[-1].name]


def outputs(graph: Graph, images: Floats) -> dict[str, Floats]:
    """Every node's output by name, (N, ...) float32; the picture's as "image"."""
    found = {"image": images}
    for node in graph.nodes:
        found[node.name] = _one(node, [found[name] for name in node.inputs])
        assert found[node.name].shape[1:] == node.shape, node.name
    return found


def _one(node: Node, inputs: list[Floats]) -> Floats:
    x = inputs[0]
    match node.operation:
        case Conv() as conv:
            return _convolved(conv, x, node.shape)
        case Linear(weight, bias):
            return np.asarray(x @ weight.T + bias)
        case Clip(most):
            return np.clip(x, np.float32(0), np.float32(most))
        case Add():
            return x + inputs[1]
        case MeanPool():
            return np.asarray(x.mean(axis=(2, 3), dtype=np.float32))
        case MaxPool(kernel, stride):
            return _largest(x, kernel, stride, node.shape)


def _convolved(conv: Conv, x: Floats, shape: tuple[int, ...]) -> Floats:
    """Tap by tap: weight (o, i, ky, kx) times the picture shifted by (ky, kx)."""
    p, s, kernel = conv.padding, conv.stride, conv.weight.shape[2]
    _, height, width = shape
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    out = np.zeros((len(x), *shape), np.float32) + conv.bias[:, None, None]
    for ky in range(kernel):
        for kx in range(kernel):
            seen = x[:, :, ky : ky + (height - 1) * s + 1 : s, kx : kx + (width - 1) * s + 1 : s]
            tap = conv.weight[:, :, ky, kx]
            if conv.groups > 1:
                out += tap[:, 0, None, None] * seen
            else:
                out += np.einsum("oi,nihw->nohw", tap, seen, optimize=True)
    return out


def _largest(x: Floats, kernel: int, stride: int, shape: tuple[int, ...]) -> Floats:
    _, height, width = shape
    out = np.empty((len(x), *shape), np.float32)
    for i in range(height):
        for j in range(width):
            window = x[:, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            out[:, :, i, j] = window.max(axis=(2, 3))
    return out
