"""How the numbers of an upload are written: as they are, or as a few bits each."""

import struct
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedtiny.payload.bits import pack_bits, unpack_bits
from fedtiny.payload.packing import Packing
from fedtiny.value import Value

__all__ = ["EXACT", "AnyCodec", "Exact", "Quantised"]

_GRID = struct.Struct("<ff")  # the least value, and the step from one value to the next


class Exact(Value):
    """Every number is float32: decoding gives the same bits."""

    name: Literal["exact"] = "exact"

    def size(self, packing: Packing) -> int:
        """Bytes of one packed vector."""
        return 4 * packing.size

    def encode(self, values: Tensor, packing: Packing) -> bytes:
        """Writes (packing.size,) float32."""
        return values.numpy().tobytes()

    def decode(self, buffer: bytes | memoryview, offset: int, packing: Packing) -> Tensor:
        """Reads (packing.size,) float32 at `offset`; whether they make sense is another's question."""
        return torch.from_numpy(np.frombuffer(buffer, np.float32, packing.size, offset).copy())


EXACT = Exact()


class Quantised(Value):
    """Each layer's kept weights lie on an even grid from its least value to its largest: x = least + step * q.

    q is the nearest of 2**bits whole numbers, so a round trip moves no weight by more than half a step (and what
    float32 rounds off), and a layer whose weights are all equal not at all. A layer takes 8 bytes for its grid
    and `bits` a weight. Vectors (biases, batch norm and its statistics) stay float32: they are few, and on one grid
    the smallest variances of a layer would be lost. So does a layer that would not become shorter.
    """

    name: Literal["quantised"] = "quantised"
    bits: Annotated[int, Field(ge=2, le=16)] = 8
    """Bits a weight."""

    def size(self, packing: Packing) -> int:
        """Bytes of one packed vector."""
        return sum(self._length(count) if coarse else 4 * count for _, count, coarse in self._parts(packing))

    def encode(self, values: Tensor, packing: Packing) -> bytes:
        """Writes (packing.size,) float32. A layer that is not finite is written so that decoding refuses it."""
        numbers, start, written = values.numpy(), 0, []
        for _, count, coarse in self._parts(packing):
            part = numbers[start : start + count]
            written.append(self._on_grid(part) if coarse else part.tobytes())
            start += count
        return b"".join(written)

    def decode(self, buffer: bytes | memoryview, offset: int, packing: Packing) -> Tensor:
        """Reads what `encode` wrote at `offset`.

        Returns:
            (packing.size,) float32.

        Raises:
            ValueError: A layer's grid cannot be; says which.
        """
        view, read = memoryview(buffer), []
        for name, count, coarse in self._parts(packing):
            if not coarse:
                read.append(np.frombuffer(view, np.float32, count, offset))
                offset += 4 * count
                continue
            least, step = _GRID.unpack_from(view, offset)
            if not np.isfinite(least) or not np.isfinite(step) or step < 0:
                raise ValueError(
                    f"the grid of {name} must be finite and its step not negative, got {least:g} + {step:g} q"
                )
            places = self._places(view, offset + _GRID.size, count)
            read.append((least + step * places).astype(np.float32))
            offset += self._length(count)
        return torch.from_numpy(np.concatenate(read))

    def _parts(self, packing: Packing) -> Iterator[tuple[str, int, bool]]:
        """Each tensor's name, its numbers, and whether they lie on a grid: what both sides know."""
        for name, count in packing.cuts.items():
            coarse = len(packing.layout.shapes[name]) > 1 and self._length(count) < 4 * count
            yield name, count, coarse

    def _length(self, count: int) -> int:
        return _GRID.size + (count * self.bits + 7) // 8

    def _on_grid(self, part: NDArray[np.float32]) -> bytes:
        if not np.isfinite(part).all():
            return _GRID.pack(np.nan, np.nan) + bytes(self._length(len(part)) - _GRID.size)
        levels = 2**self.bits - 1
        least, largest = float(part.min()), float(part.max())
        step = np.float32((largest - least) / levels)
        if float(step) * levels < largest - least:  # rounded down, the grid would end short of the largest
            step = np.nextafter(step, np.float32(np.inf))
        places = np.rint((part.astype(np.float64) - least) / (float(step) or 1.0)).astype(np.int64).clip(0, levels)
        written = places.astype(np.uint8).tobytes() if self.bits == 8 else pack_bits(places, self.bits)
        return _GRID.pack(least, step) + written

    def _places(self, view: memoryview, offset: int, count: int) -> NDArray[np.float64]:
        if self.bits == 8:
            return np.frombuffer(view, np.uint8, count, offset).astype(np.float64)
        return unpack_bits(view, offset, count, self.bits)[0].astype(np.float64)


AnyCodec = Annotated[Exact | Quantised, Field(discriminator="name")]
