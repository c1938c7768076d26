"""Whole numbers, masks and signs in as few bits as they need."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "index_bits",
    "mask_bytes",
    "pack_bits",
    "pack_mask",
    "pack_signs",
    "unpack_bits",
    "unpack_mask",
    "unpack_signs",
]

_BITMAP, _FLIPS = 0, 1


def index_bits(size: int) -> int:
    """Bits that an index in [0, size) takes: ceil(log2(size)), at least 1."""
    return max(1, (size - 1).bit_length())


def pack_bits(indices: NDArray[np.int64], width: int) -> bytes:
    """(K,) numbers below 2**width in K * width bits, rounded up to whole bytes."""
    bits = (indices[:, None] >> np.arange(width)) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def unpack_bits(buffer: memoryview, offset: int, count: int, width: int) -> tuple[NDArray[np.int64], int]:
    """The `count` numbers at `offset`, and where they end; a ValueError if the buffer ends before."""
    _check_length(buffer, offset + (count * width + 7) // 8)
    packed = np.frombuffer(buffer, np.uint8, (count * width + 7) // 8, offset)
    bits = np.unpackbits(packed, count=count * width).reshape(count, width).astype(np.int64)
    return np.asarray(bits @ (1 << np.arange(width, dtype=np.int64))), offset + len(packed)


def _check_length(buffer: memoryview, length: int) -> None:
    if len(buffer) < length:
        raise ValueError(f"must be at least {length} bytes, got {len(buffer)}")


def mask_bytes(size: int, flips: int) -> int:
    """Bytes of a layer's mask that differs from the known one in so many places; more never take fewer.

    Args:
        size: Weights of the layer.
        flips: Places that differ.
    """
    return 1 + min((size + 7) // 8, 4 + (flips * index_bits(size) + 7) // 8)


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
    """What `pack_mask` wrote at `offset`, and where it ends.

    Raises:
        ValueError: `pack_mask` cannot have written it; says why.
    """
    size = shape.numel()
    _check_length(buffer, offset + 1)
    if (kind := buffer[offset]) not in (_BITMAP, _FLIPS):
        raise ValueError(f"must begin with {_BITMAP} or {_FLIPS}, got {kind}")
    if kind == _BITMAP:
        _check_length(buffer, offset + 1 + (size + 7) // 8)
        packed = np.frombuffer(buffer, np.uint8, (size + 7) // 8, offset + 1)
        flat = np.unpackbits(packed, count=size).astype(bool)
        return torch.from_numpy(flat).view(shape), offset + 1 + len(packed)
    _check_length(buffer, offset + 5)
    count = int(np.frombuffer(buffer, np.uint32, 1, offset + 1)[0])
    flips, end = unpack_bits(buffer, offset + 5, count, index_bits(size))
    if count and (flips[-1] >= size or (np.diff(flips) <= 0).any()):
        raise ValueError(f"must name ascending places below {size}")
    keep = torch.zeros(size, dtype=torch.bool) if known is None else known.flatten().clone()
    keep[torch.from_numpy(flips)] ^= True
    return keep.view(shape), end


def pack_signs(signs: Tensor, keep: Tensor) -> bytes:
    """One layer's signs: where there are any, as a mask against the kept weights, then a bit each.

    That is one bit a weight and one a sign at most; a bit a kept weight where just the kept ones have a sign.

    Args:
        signs: int8 tensor of -1, 0 and 1.
        keep: Bool tensor of the same shape, which the receiver has.
    """
    there = signs.flatten().numpy()
    return pack_mask(signs != 0, keep) + np.packbits(there[there != 0] > 0).tobytes()


def unpack_signs(buffer: memoryview, offset: int, keep: Tensor) -> tuple[Tensor, int]:
    """What `pack_signs` wrote at `offset`, and where it ends."""
    there, offset = unpack_mask(buffer, offset, keep.shape, keep)
    count = int(there.sum())
    up, offset = unpack_bits(buffer, offset, count, 1)
    signs = torch.zeros(keep.shape, dtype=torch.int8)
    signs[there] = torch.from_numpy(up).to(torch.int8) * 2 - 1
    return signs, offset
