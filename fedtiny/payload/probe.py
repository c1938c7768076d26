"""The questions a server may ask of a client, and the answers.

A client never learns which method runs: it only answers. Every answer says how it looks on the wire.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedtiny.payload.bits import index_bits, pack_bits, unpack_bits
from fedtiny.value import Value

__all__ = [
    "Answer",
    "BatchNormStatistics",
    "Gradients",
    "LocalLoss",
    "Loss",
    "Moments",
    "Probe",
    "Statistics",
    "TopGradients",
]

Sizes = Mapping[str, int]
"""Parameter or buffer name -> its number of entries: what both sides know of the network."""

Places = Mapping[str, Tensor]
"""Masked parameter -> flat indices of its kept weights, ascending."""


class BatchNormStatistics(Value):
    """Asks for the batch-norm statistics of the local development data, counted from zero. No training."""

    kind: Literal["batch_norm_statistics"] = "batch_norm_statistics"

    def answer_bytes(self, sizes: Sizes) -> int:
        """Bytes of the answer."""
        return sum(4 + 8 * size for name, size in sizes.items() if name.endswith(".running_mean"))

    def decode(self, buffer: memoryview, sizes: Sizes) -> "tuple[Statistics, int]":
        """Reads the answer at the start of `buffer`; returns it and the bytes it took."""
        layers, offset = {}, 0
        for name in sizes:
            if not name.endswith(".running_mean"):
                continue
            channels = sizes[name]
            (count,) = struct.unpack_from("<I", buffer, offset)
            numbers = _floats(buffer, offset + 4, 2 * channels)
            layers[name.removesuffix(".running_mean")] = Moments(numbers[:channels], numbers[channels:], count)
            offset += 4 + 8 * channels
        return Statistics(layers), offset


class LocalLoss(Value):
    """Asks for the loss on the local development data, with batch norm in evaluation mode. No training."""

    kind: Literal["local_loss"] = "local_loss"

    def answer_bytes(self, sizes: Sizes) -> int:
        """Bytes of the answer."""
        return 8

    def decode(self, buffer: memoryview, sizes: Sizes) -> "tuple[Loss, int]":
        """Reads the answer at the start of `buffer`; returns it and the bytes it took."""
        total, examples = struct.unpack_from("<fI", buffer, 0)
        return Loss(total, examples), 8


class TopGradients(Value):
    """Asks for the largest |dL/dw| among the pruned weights of some layers, in the last step of training.

    The gradient is taken at the masked weights, before that step is made. The client holds the entries asked for
    and one output channel's gradient at a time (one layer's, where it stays dense), never more.
    """

    kind: Literal["top_gradients"] = "top_gradients"
    count: dict[str, Annotated[int, Field(ge=0)]]
    """Parameter name -> gradients to return, at most the number of pruned weights."""

    def answer_bytes(self, sizes: Sizes) -> int:
        """Bytes of the answer."""
        return sum((count * index_bits(sizes[name]) + 7) // 8 + 4 * count for name, count in self.count.items())

    def decode(self, buffer: memoryview, sizes: Sizes) -> "tuple[Gradients, int]":
        """Reads the answer at the start of `buffer`; returns it and the bytes it took."""
        layers, offset = {}, 0
        for name, count in self.count.items():
            indices, offset = unpack_bits(buffer, offset, count, index_bits(sizes[name]))
            layers[name] = (torch.from_numpy(indices), _floats(buffer, offset, count))
            offset += 4 * count
        return Gradients(layers), offset


Probe = Annotated[BatchNormStatistics | LocalLoss | TopGradients, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What a batch-norm layer saw of its input: per-channel mean and unbiased variance, and how many values.

    Attributes:
        mean: (channels,) float32.
        var: (channels,) float32, divided by count - 1.
        count: Values a channel: examples * height * width.
    """

    mean: Tensor
    var: Tensor
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Answers `BatchNormStatistics`: batch-norm layer -> what it saw."""

    layers: Mapping[str, Moments]

    def encode(self, sizes: Sizes) -> bytes:
        """The bytes on the wire: 4 + 8 * channels for each batch-norm layer, in the order that both sides know."""
        layers = (self.layers[name.removesuffix(".running_mean")] for name in sizes if name.endswith(".running_mean"))
        return b"".join(struct.pack("<I", x.count) + x.mean.numpy().tobytes() + x.var.numpy().tobytes() for x in layers)

    def check(self, sizes: Sizes, places: Places) -> None:
        """Raises a ValueError that says what no honest client could have measured."""
        for name, x in self.layers.items():
            if x.count < 1 or not x.mean.isfinite().all() or not x.var.isfinite().all() or (x.var < 0).any():
                raise ValueError(f"statistics of {name} must be finite, with no variance below 0, of some values")


@dataclass(frozen=True, slots=True)
class Loss:
    """Answers `LocalLoss`: the sum of the losses of all development examples, and how many there are."""

    total: float
    examples: int

    def encode(self, sizes: Sizes) -> bytes:
        """The bytes on the wire: 8."""
        return struct.pack("<fI", self.total, self.examples)

    def check(self, sizes: Sizes, places: Places) -> None:
        """Raises a ValueError that says what no honest client could have measured. NaN is: of a hopeless candidate."""
        if self.total < 0 or self.examples < 1:
            raise ValueError(f"the loss of some examples must be at least 0, got {self.total} of {self.examples}")


@dataclass(frozen=True, slots=True, eq=False)
class Gradients:
    """Answers `TopGradients`: parameter name -> ((K,) int64 ascending flat indices, (K,) float32 gradients)."""

    layers: Mapping[str, tuple[Tensor, Tensor]]

    def encode(self, sizes: Sizes) -> bytes:
        """The bytes on the wire: ceil(log2 N) bits an index, 4 bytes a gradient."""
        return b"".join(
            pack_bits(indices.numpy(), index_bits(sizes[name])) + values.numpy().tobytes()
            for name, (indices, values) in self.layers.items()
        )

    def check(self, sizes: Sizes, places: Places) -> None:
        """Raises a ValueError that says what no honest client could have measured."""
        for name, (indices, values) in self.layers.items():
            if not values.isfinite().all():
                raise ValueError(f"gradients of {name} are not finite: it diverged")
            if len(indices) and (int(indices[-1]) >= sizes[name] or (indices.diff() <= 0).any()):
                raise ValueError(f"gradients of {name} must be of ascending places below {sizes[name]}")
            if torch.isin(indices, places[name]).any():
                raise ValueError(f"gradients of {name} must be of pruned places, got some of kept ones")


Answer = Statistics | Loss | Gradients


def _floats(buffer: memoryview, offset: int, count: int) -> Tensor:
    return torch.from_numpy(np.frombuffer(buffer, np.float32, count, offset).copy())
