"""Where the largest gradients of pruned weights are, without their values: what FedRTS's clients vote by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedtiny.payload.bits import index_bits, pack_bits, unpack_bits
from fedtiny.payload.probes.base import Demand, Most, Places, Question, Sizes

__all__ = ["Indices", "TopIndices"]


@dataclass(frozen=True, slots=True, eq=False)
class Indices:
    """Answers `TopIndices`: parameter name -> (K,) int64 ascending flat indices."""

    layers: Mapping[str, Tensor]

    def encode(self, sizes: Sizes) -> bytes:
        """The bytes on the wire: ceil(log2 N) bits an index, rounded up for each parameter."""
        return b"".join(pack_bits(x.numpy(), index_bits(sizes[name])) for name, x in self.layers.items())

    def check(self, sizes: Sizes, places: Places, most: Most) -> None:
        """Raises a ValueError that says what no honest client could have measured."""
        for name, indices in self.layers.items():
            if len(indices) and (int(indices[-1]) >= sizes[name] or (indices.diff() <= 0).any()):
                raise ValueError(f"indices of {name} must ascend, all below {sizes[name]}")
            if torch.isin(indices, places[name]).any():
                raise ValueError(f"indices of {name} must be of pruned places, got some of kept ones")


class TopIndices(Question):
    """Asks where the largest |dL/dw| among the pruned weights of some layers are, in the last step of training.

    It is `TopGradients` without the gradients: as much work for a client, and less than half the bytes.
    """

    kind: Literal["top_indices"] = "top_indices"
    count: dict[str, Annotated[int, Field(ge=0)]]
    """Parameter name -> indices to return, at most the number of pruned weights."""

    def demand(self, sizes: Sizes) -> Demand:
        """The layers' dense gradients in one step, and 8 bytes for each entry that is kept of them."""
        return Demand(tuple(self.count), held_bytes=8 * sum(self.count.values()))

    def answer_bytes(self, sizes: Sizes) -> int:
        """Bytes of the answer."""
        return sum((count * index_bits(sizes[name]) + 7) // 8 for name, count in self.count.items())

    def decode(self, buffer: memoryview, sizes: Sizes) -> tuple[Indices, int]:
        """Reads the answer at the start of `buffer`; returns it and the bytes it took."""
        layers, offset = {}, 0
        for name, count in self.count.items():
            indices, offset = unpack_bits(buffer, offset, count, index_bits(sizes[name]))
            layers[name] = torch.from_numpy(indices)
        return Indices(layers), offset

    def blank(self, sizes: Sizes, places: Places, rng: np.random.Generator) -> Indices:
        """A made-up answer, to count bytes with: random pruned places."""
        layers = {}
        for name, count in self.count.items():
            pruned = np.setdiff1d(np.arange(sizes[name]), places[name].numpy(), assume_unique=True)
            layers[name] = torch.from_numpy(np.sort(rng.choice(pruned, count, replace=False)))
        return Indices(layers)
