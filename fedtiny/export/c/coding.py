"""The places of a layer's kept weights, in as few bytes as one of four codings takes."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Coding", "Taps", "coded"]


class Coding(IntEnum):
    """How the places are told.

    EVERY: Every weight is there, in order; zeros too.
    BITS: A bit for each weight, lowest first, says whether it is there.
    GAPS: A byte for each weight that is there: how many are missing before it; 255 is "255 and then".
    NIBBLES: The same in four bits, the lower first; 15 is "15 and then".
    """

    EVERY = 0
    BITS = 1
    GAPS = 2
    NIBBLES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """The kept weights of a layer.

    Attributes:
        coding: How `codes` tells their places in the flat (outputs, inputs / groups, K, K) weight.
        codes: (B,) uint8.
        kept: (N,) the weights that are there, of the dtype of the whole.
    """

    coding: Coding
    codes: NDArray[np.uint8]
    kept: NDArray[np.float32] | NDArray[np.int8]

    @property
    def nbytes(self) -> int:
        """Of codes and weights."""
        return self.codes.nbytes + self.kept.nbytes


def coded(weight: NDArray[np.float32] | NDArray[np.int8]) -> Taps:
    """The smallest coding of the weights that are not 0."""
    flat = weight.reshape(-1)
    places = np.flatnonzero(flat)
    bits = Taps(Coding.BITS, np.packbits(flat != 0, bitorder="little"), flat[places])
    every = Taps(Coding.EVERY, np.zeros(0, np.uint8), flat)
    gaps = Taps(Coding.GAPS, _gaps(places, 255), flat[places])
    nibbles = _gaps(places, 15)
    low, high = nibbles[::2].copy(), nibbles[1::2]
    low[: len(high)] |= high << 4
    # At equal sizes, the coding that is faster to read.
    return min((every, gaps, Taps(Coding.NIBBLES, low, flat[places]), bits), key=lambda taps: taps.nbytes)


def _gaps(places: NDArray[np.intp], escape: int) -> NDArray[np.uint8]:
    """(N,) ascending places -> the codes of their gaps."""
    gaps = np.diff(places, prepend=-1) - 1
    escapes = gaps // escape
    codes = np.full(len(gaps) + int(escapes.sum()), escape, np.uint8)
    codes[np.cumsum(escapes + 1) - 1] = gaps % escape
    return codes
