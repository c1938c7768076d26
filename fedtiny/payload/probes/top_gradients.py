"""The largest gradients of pruned weights: what FedTiny's progressive pruning grows by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedtiny.payload.bits import index_bits, pack_bits, unpack_bits
from fedtiny.payload.probes.base import LARGEST, Demand, Most, Places, Question, Sizes, floats

__all__ = ["Gradients", "TopGradients"]


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

    def check(self, sizes: Sizes, places: Places, most: Most) -> None:
        """Raises a ValueError that says what no honest client could have measured."""
        for name, (indices, values) in self.layers.items():
            if not values.isfinite().all():
                raise ValueError(f"gradients of {name} are not finite: it diverged")
            if len(values) and float(values.abs().max()) > LARGEST:
                largest = float(values.abs().max())
                raise ValueError(f"gradients of {name} must lie within {LARGEST:g}, got {largest:g}: it diverged")
            if len(indices) and (int(indices[-1]) >= sizes[name] or (indices.diff() <= 0).any()):
                raise ValueError(f"gradients of {name} must be of ascending places below {sizes[name]}")
            if torch.isin(indices, places[name]).any():
                raise ValueError(f"gradients of {name} must be of pruned places, got some of kept ones")


class TopGradients(Question):
    """Asks for the largest |dL/dw| among the pruned weights of some layers, in the last step of training.

    The gradient is taken at the masked weights, before that step is made. The client holds the entries asked for
    and one output channel's gradient at a time (one layer's, where it stays dense), never more.
    """

    kind: Literal["top_gradients"] = "top_gradients"
    count: dict[str, Annotated[int, Field(ge=0)]]
    """Parameter name -> gradients to return, at most the number of pruned weights."""

    def demand(self, sizes: Sizes) -> Demand:
        """The layers' dense gradients in one step, and 8 bytes for each entry that is kept of them."""
        return Demand(tuple(self.count), held_bytes=8 * sum(self.count.values()))

    def answer_bytes(self, sizes: Sizes) -> int:
        """Bytes of the answer."""
        return sum((count * index_bits(sizes[name]) + 7) // 8 + 4 * count for name, count in self.count.items())

    def decode(self, buffer: memoryview, sizes: Sizes) -> tuple[Gradients, int]:
        """Reads the answer at the start of `buffer`; returns it and the bytes it took."""
        layers, offset = {}, 0
        for name, count in self.count.items():
            indices, offset = unpack_bits(buffer, offset, count, index_bits(sizes[name]))
            layers[name] = (torch.from_numpy(indices), floats(buffer, offset, count))
            offset += 4 * count
        return Gradients(layers), offset

    def blank(self, sizes: Sizes, places: Places, rng: np.random.Generator) -> Gradients:
        """A made-up answer, to count bytes with: gradients of 1 at random pruned places, so that the mask moves."""
        layers = {}
        for name, count in self.count.items():
            pruned = np.setdiff1d(np.arange(sizes[name]), places[name].numpy(), assume_unique=True)
            chosen = np.sort(rng.choice(pruned, count, replace=False))
            layers[name] = (torch.from_numpy(chosen), torch.ones(count))
        return Gradients(layers)
