"""A network for deployment: a short list of operations, batch norm folded, pruned weights exactly 0.

Shapes are those of one picture, without the batch: (channels, height, width), or (features,) behind the pool.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Add", "Clip", "Conv", "Floats", "Graph", "Linear", "MaxPool", "MeanPool", "Node", "Operation", "Shape"]

Floats = NDArray[np.float32]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """A convolution with square kernels, equal strides and equal zero padding; bias as folded.

    Attributes:
        weight: (outputs, inputs / groups, K, K) float32.
        bias: (outputs,) float32.
        stride: Pixels.
        padding: Pixels.
        groups: 1, or the number of inputs (depthwise).
    """

    weight: Floats
    bias: Floats
    stride: int = 1
    padding: int = 0
    groups: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A matrix and a bias: (outputs, inputs) and (outputs,) float32."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class Clip:
    """ReLU (most is infinite) or ReLU6 (most is 6): min(max(x, 0), most)."""

    most: float


@dataclass(frozen=True, slots=True)
class Add:
    """The sum of two inputs of one shape."""


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Maximum over windows; windows at the lower right edge may be cut off (`ceil_mode`)."""

    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class MeanPool:
    """The mean over all places of each channel: (C, H, W) -> (C,)."""


Operation = Conv | Linear | Clip | Add | MaxPool | MeanPool


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An operation in its place.

    Attributes:
        name: Unique; a convolution's or linear layer's is that of its module, such as `stages.0.0.conv1`.
        operation: What it does.
        inputs: Names of the nodes that it reads; "image" is the picture.
        shape: Of its output.
    """

    name: str
    operation: Operation
    inputs: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A network, as its operations in an order in which they can be computed; the last one gives the logits.

    Attributes:
        image: (channels, height, width) of a picture.
        nodes: In order.
    """

    image: Shape
    nodes: tuple[Node, ...]

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Name -> shape of each output, the picture's as "image"."""
        return {"image": self.image, **{node.name: node.shape for node in self.nodes}}
