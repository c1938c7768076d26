"""What both sides know of the network, and how its weights under a mask become one vector and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from typing import Self

import numpy as np
import torch
from torch import Tensor

from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights

__all__ = ["Layout", "Packing"]


@dataclass(frozen=True)  # no slots: what follows from it is asked for with every upload, and kept
class Layout:
    """What both sides know of the network.

    Attributes:
        shapes: Name -> shape of every parameter and floating-point buffer, in the network's order.
        prunable: Names of the weights that a mask may cover.
        positions: Values a channel that one example gives a layer, at most: a picture's pixels, since no network makes
            pictures larger. Where nobody says how many, very many.
    """

    shapes: Mapping[str, torch.Size]
    prunable: frozenset[str]
    positions: int = 2**20

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Name -> number of entries."""
        return {name: shape.numel() for name, shape in self.shapes.items()}


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the numbers of a network stand in one vector: of masked layers the kept weights, all others whole.

    Attributes:
        layout: Names and shapes; their order is the vector's.
        places: Masked layer -> (kept,) int64 flat indices of its kept weights, ascending.
        cuts: Name -> numbers of this tensor in the vector.
    """

    layout: Layout
    places: Mapping[str, Tensor]
    cuts: Mapping[str, int]

    @classmethod
    def of(cls, layout: Layout, mask: Mask | None) -> Self:
        """The packing under `mask`; None packs everything."""
        keep = {} if mask is None else mask.keep
        # Five times faster than PyTorch's nonzero.
        places = {n: torch.from_numpy(np.flatnonzero(keep[n].numpy())) for n in layout.shapes if n in keep}
        cuts = {name: len(places[name]) if name in places else n for name, n in layout.sizes.items()}
        return cls(layout, places, cuts)

    @cached_property
    def size(self) -> int:
        """Numbers in a vector."""
        return sum(self.cuts.values())

    @cached_property
    def variances(self) -> Tensor:
        """(numbers,) int64, where in a vector batch norm's running variances stand."""
        ends = accumulate(self.cuts.values())
        spans = {name: range(end - n, end) for (name, n), end in zip(self.cuts.items(), ends, strict=True)}
        found = chain.from_iterable(span for name, span in spans.items() if name.endswith(".running_var"))
        return torch.tensor([*found], dtype=torch.int64)

    def pack(self, weights: Weights) -> Tensor:
        """(size,) float32."""
        flat = ((name, weights[name].flatten()) for name in self.cuts)
        return torch.cat([x[self.places[name]] if name in self.places else x for name, x in flat])

    def parts(self, values: Tensor) -> dict[str, Tensor]:
        """Name -> its part of a vector, a view."""
        return dict(zip(self.cuts, values.split(list(self.cuts.values())), strict=True))

    def unpack(self, values: Tensor) -> Weights:
        """The weights by name, float32; what the mask prunes is exactly 0.

        Args:
            values: (size,) any floating-point type.
        """
        weights: dict[str, Tensor] = {}
        for name, part in self.parts(values.float()).items():
            shape = self.layout.shapes[name]
            if name in self.places:
                whole = torch.zeros(shape.numel())
                whole[self.places[name]] = part
                weights[name] = whole.view(shape)
            else:
                weights[name] = part.clone().view(shape)
        return weights
