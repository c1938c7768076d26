"""A network for deployment: a short list of operations, batch norm folded, pruned weights exactly 0.

Shapes are those of one picture, without the batch: (channels, height, width), or (features,) behind the pool.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Add", "Clip", "Conv", "Floats", "Graph", "Linear", "MaxPool", "MeanPool", "Node", "Operation", "Shape"]

Floats = NDArray[np.float32]
Shape = tuple[int, ...]


def _picture(inputs: Sequence[Shape]) -> Shape:
    if len(inputs[0]) != 3:
        raise ValueError(f"must be a picture (channels, height, width), got {inputs[0]}")
    return inputs[0]


def _places(room: int, stride: int) -> int:
    """Places of a window that has `room` to move, every `stride`."""
    if room < 0 or stride < 1:
        raise ValueError(f"a window must fit its input, it has {room} to move and stride {stride}")
    return room // stride + 1


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

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Of the output; `ValueError` if it cannot read such an input."""
        outputs, channels, kernel, _ = self.weight.shape
        x = _picture(inputs)
        if x[0] != channels * self.groups or (self.groups > 1 and not channels == 1 <= outputs == self.groups):
            raise ValueError(f"a convolution with weights {self.weight.shape} cannot read {x}")
        return outputs, *(_places(size + 2 * self.padding - kernel, self.stride) for size in x[1:])


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A matrix and a bias: (outputs, inputs) and (outputs,) float32."""

    weight: Floats
    bias: Floats

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Of the output; `ValueError` if it cannot read such an input."""
        if list(inputs) != [self.weight.shape[1:]]:
            raise ValueError(f"a matrix {self.weight.shape} cannot read {list(inputs)}")
        return self.weight.shape[:1]


@dataclass(frozen=True, slots=True)
class Clip:
    """ReLU (most is infinite) or ReLU6 (most is 6): min(max(x, 0), most)."""

    most: float

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Of the output: that of the input."""
        return inputs[0]


@dataclass(frozen=True, slots=True)
class Add:
    """The sum of two inputs of one shape."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Of the output; `ValueError` if the inputs differ."""
        if inputs[0] != inputs[1]:
            raise ValueError(f"{inputs[0]} and {inputs[1]} cannot be added")
        return inputs[0]


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Maximum over windows; windows at the lower right edge may be cut off (`ceil_mode`)."""

    kernel: int
    stride: int

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Of the output; `ValueError` if it cannot read such an input."""
        channels, *sizes = _picture(inputs)
        return channels, *(self._windows(size) for size in sizes)

    def _windows(self, size: int) -> int:
        """As many as cover the input, of those that begin inside it."""
        return min(_places(size - self.kernel + self.stride - 1, self.stride), _places(size - 1, self.stride))


@dataclass(frozen=True, slots=True)
class MeanPool:
    """The mean over all places of each channel: (C, H, W) -> (C,)."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Of the output; `ValueError` if it cannot read such an input."""
        return _picture(inputs)[:1]


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
