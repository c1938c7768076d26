"""Whole numbers and masks in as few bits as they need."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["index_bits", "pack_bits", "pack_mask", "unpack_bits", "unpack_mask"]

_BITMAP, _FLIPS = 0, 1


def index_bits(size: int) -> int:
    """Bits that an index in [0, size) takes: ceil(log2(size)), at least 1."""
    return max(1, (size - 1).bit_length())


def pack_bits(indices: NDArray[np.int64], width: int) -> bytes:
    """(K,) numbers below 2**width in K * width bits, rounded up to whole bytes."""
    bits = (indices[:, None] >> np.arange(width)) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def unpack_bits(buffer: memoryview, offset: int, count: int, width: int) -> tuple[NDArray[np.int64], int]:
    """The `count` numbers at `offset`, and where they end."""
    packed = np.frombuffer(buffer, np.uint8, (count * width + 7) // 8, offset)
    bits = np.unpackbits(packed, count=count * width).reshape(count, width).astype(np.int64)
    return np.asarray(bits @ (1 << np.arange(width, dtype=np.int64))), offset + len(packed)


def pack_mask(keep: Tensor, known: Tensor | None) -> bytes:
    """One layer's mask: a bitmap, or the places that differ from the known mask, whichever is shorter.

    Args:
        keep: Bool tensor; True is kept.
        known: What the receiver has in its place; None is nothing, as if all were pruned.
    """
    flat = keep.flatten().numpy()
    changed = flat if known is None else flat ^ known.flatten().numpy()
    flips = np.flatnonzero(changed)
    width = index_bits(flat.size)
    if 4 + (len(flips) * width + 7) // 8 < (flat.size + 7) // 8:
        return bytes([_FLIPS]) + np.uint32(len(flips)).tobytes() + pack_bits(flips, width)
    return bytes([_BITMAP]) + np.packbits(flat).tobytes()


def unpack_mask(buffer: memoryview, offset: int, shape: torch.Size, known: Tensor | None) -> tuple[Tensor, int]:
    """What `pack_mask` wrote at `offset`, and where it ends."""
    size = shape.numel()
    if buffer[offset] == _BITMAP:
        packed = np.frombuffer(buffer, np.uint8, (size + 7) // 8, offset + 1)
        flat = np.unpackbits(packed, count=size).astype(bool)
        return torch.from_numpy(flat).view(shape), offset + 1 + len(packed)
    count = int(np.frombuffer(buffer, np.uint32, 1, offset + 1)[0])
    flips, end = unpack_bits(buffer, offset + 5, count, index_bits(size))
    keep = torch.zeros(size, dtype=torch.bool) if known is None else known.flatten().clone()
    keep[torch.from_numpy(flips)] ^= True
    return keep.view(shape), end
