"""Writes a packed network: what `packed.py` reads. Of each mask's codes the shortest is taken."""

import struct
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedtiny.export.graph import Add, Clip, Conv, Floats, Graph, Linear, MaxPool, MeanPool, Node
from fedtiny.export.packed import MAGIC, VALUES

__all__ = ["Values", "entropy_bits", "pack"]

Values = Literal["float32", "float16", "int8"]
Bools = NDArray[np.bool_]


def pack(graph: Graph, classes: Sequence[str], values: Values) -> bytes:
    """The file's bytes.

    Args:
        graph: The network; a weight that is 0 counts as pruned.
        classes: Their names, without line ends; one for each logit.
        values: What kept weights are stored as. Biases are float32 always; int8 has a float32 scale for each output.
    """
    names = "\n".join(classes).encode()
    places = {"image": 0, **{node.name: i for i, node in enumerate(graph.nodes, 1)}}
    body = _numbers(VALUES.index(values), *graph.image, len(names)) + names + _numbers(len(graph.nodes))
    for i, node in enumerate(graph.nodes, 1):
        back, *backs = (i - places[name] for name in node.inputs)
        code, settings = _operation(node)
        body += _numbers(8 * back + code, *backs, *settings)
        if isinstance(node.operation, Conv | Linear):
            body += _weight(node.operation.weight, values) + node.operation.bias.astype("<f4").tobytes()
    return MAGIC + struct.pack("<I", zlib.crc32(body)) + body


def entropy_bits(graph: Graph, values: Values) -> float:
    """Bits of the masks, had their codes no waste, and of all values: what a packed file cannot be smaller than.

    A mask that keeps K of N weights at random takes log2 of N over K bits, here by its entropy: N H(K / N).
    """
    bits = 0.0
    for node in graph.nodes:
        if isinstance(node.operation, Conv | Linear):
            weight = node.operation.weight
            share = np.count_nonzero(weight) / weight.size
            if 0 < share < 1:
                bits -= weight.size * (share * np.log2(share) + (1 - share) * np.log2(1 - share))
            bits += np.count_nonzero(weight) * {"float32": 32, "float16": 16, "int8": 8}[values]
            bits += len(weight) * (64 if values == "int8" else 32)
    return float(bits)


def _numbers(*values: int) -> bytes:
    """Each in 7 bits a byte, the lowest first; the highest bit says that more follow."""
    out = bytearray()
    for value in map(int, values):
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


def _operation(node: Node) -> tuple[int, tuple[int, ...]]:
    """The operation's code, and the numbers that say what it does."""
    match node.operation:
        case Conv(weight, _, stride, padding, groups):
            return 6 if groups > 1 else 0, (len(weight), weight.shape[2], stride, padding)
        case Linear(weight):
            return 1, (len(weight),)
        case Clip(most):
            return 2, (0 if most == float("inf") else int(most),)
        case Add():
            return 3, ()
        case MaxPool(kernel, stride):
            return 4, (kernel, stride)
        case MeanPool():
            return 5, ()


def _weight(weight: Floats, values: Values) -> bytes:
    flat, size = weight.reshape(len(weight), -1), weight.size
    if values == "int8":
        scales = (np.abs(flat).max(axis=1) / 127).astype("<f4")
        whole = np.rint(flat / np.where(scales == 0, 1, scales)[:, None]).astype("i1").ravel()
        kept = (flat != 0).ravel()
        return b"".join([_mask(kept, size), scales.tobytes(), whole[kept].tobytes()])
    stored = flat.astype("<f4" if values == "float32" else "<f2").ravel()
    if not np.isfinite(stored).all():
        raise ValueError(f"a weight is too large for {values}: {np.abs(flat).max():g}")
    kept = stored != 0
    return b"".join([_mask(kept, size), stored[kept].tobytes()])


def _mask(kept: Bools, size: int) -> bytes:
    if kept.all():
        return _numbers(0)
    codes = [b"\x01" + np.packbits(kept).tobytes()]
    if (count := int(kept.sum())) and count < size / 2:
        gaps = np.diff(np.flatnonzero(kept), prepend=-1) - 1
        # The best one lies beside log2 of the mean gap.
        middle = int(np.log2(gaps.mean() + 1))
        codes += [_rice(gaps, low) for low in range(max(0, middle - 1), middle + 2)]
    elif not count:
        codes.append(_rice(np.zeros(0, np.int64), 0))
    return min(codes, key=len)


def _rice(gaps: NDArray[np.int64], low: int) -> bytes:
    """Each gap's quotient by 2^low as so many ones and a zero, then its `low` lower bits, the highest first."""
    ends = np.cumsum((gaps >> low) + 1 + low) - 1 - low  # where the zeros stand
    bits = np.ones(int(ends[-1]) + 1 + low if len(ends) else 0, np.uint8)
    bits[ends] = 0
    for k in range(low):
        bits[ends + 1 + k] = (gaps >> (low - 1 - k)) & 1
    packed = np.packbits(bits).tobytes()
    return bytes([2 + low]) + _numbers(len(gaps), len(packed)) + packed
