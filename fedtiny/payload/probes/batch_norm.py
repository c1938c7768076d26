"""Batch-norm statistics: the first half of FedTiny's adaptive batch-norm selection."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedtiny.payload.probes.base import LARGEST, Most, Places, Question, Sizes, floats

__all__ = ["BatchNormStatistics", "Moments", "Statistics"]


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

    def check(self, sizes: Sizes, places: Places, most: Most) -> None:
        """Raises a ValueError that says what no honest client could have measured."""
        for name, x in self.layers.items():
            if x.count < 1 or not x.mean.isfinite().all() or not x.var.isfinite().all() or (x.var < 0).any():
                raise ValueError(f"statistics of {name} must be finite, with no variance below 0, of some values")
            if x.count > most.values:
                raise ValueError(f"statistics of {name} must be of at most {most.values} values, got {x.count}")
            largest = max(float(x.mean.abs().max()), float(x.var.max()))
            if largest > LARGEST:
                raise ValueError(f"statistics of {name} must lie within {LARGEST:g}, got {largest:g}")


class BatchNormStatistics(Question):
    """Asks for the batch-norm statistics of the local development data, counted from zero. No training."""

    kind: Literal["batch_norm_statistics"] = "batch_norm_statistics"

    @property
    def measures(self) -> bool:
        return True

    def answer_bytes(self, sizes: Sizes) -> int:
        """Bytes of the answer."""
        return sum(4 + 8 * size for name, size in sizes.items() if name.endswith(".running_mean"))

    def decode(self, buffer: memoryview, sizes: Sizes) -> tuple[Statistics, int]:
        """Reads the answer at the start of `buffer`; returns it and the bytes it took."""
        layers, offset = {}, 0
        for name in sizes:
            if not name.endswith(".running_mean"):
                continue
            channels = sizes[name]
            (count,) = struct.unpack_from("<I", buffer, offset)
            numbers = floats(buffer, offset + 4, 2 * channels)
            layers[name.removesuffix(".running_mean")] = Moments(numbers[:channels], numbers[channels:], count)
            offset += 4 + 8 * channels
        return Statistics(layers), offset

    def blank(self, sizes: Sizes, places: Places, rng: np.random.Generator) -> Statistics:
        """A made-up answer, to count bytes with: means and variances that nothing has already, of one value."""
        layers = {}
        for name, channels in sizes.items():
            if name.endswith(".running_mean"):
                mean, var = torch.from_numpy(rng.random((2, channels), dtype=np.float32))
                layers[name.removesuffix(".running_mean")] = Moments(mean, var, 1)
        return Statistics(layers)
