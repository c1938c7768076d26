"""Writes a packed network: each tensor's places and its kept values, in about as few bits as they need."""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedtiny.export.graph import Add, Clip, Conv, Floats, Graph, Linear, MaxPool, Node
from fedtiny.export.unpack import OPERATIONS
from fedtiny.export.values import Values

__all__ = ["entropy_bits", "pack"]

_OPERATIONS = [words.split() for words in OPERATIONS.split("|")]
_KINDS = ("float32", "float16", "int8")
_LARGEST_HALF = 65504


def pack(graph: Graph, classes: Sequence[str], values: Values = "float32") -> bytes:
    """The bytes that `unpack` reads.

    Args:
        graph: The network; weights that are 0 are not written.
        classes: Their names, one for each logit.
        values: What kept values are written as. float16 rounds; int8 has 127 steps up to about the largest weight of
            an output, and biases in float16.

    Raises:
        ValueError: There are not as many names, a number is not finite, or too large for what it is to be written as.
    """
    index = {"image": 0} | {node.name: n for n, node in enumerate(graph.nodes, 1)}
    names = "\n".join(classes).encode()
    if names.count(b"\n") + 1 != graph.nodes[-1].shape[0]:
        raise ValueError(f"there must be a name for each of {graph.nodes[-1].shape[0]} classes, of one line")
    parts = [*map(_number, (_KINDS.index(values), *graph.image, len(names))), names, _number(len(graph.nodes))]
    for n, node in enumerate(graph.nodes, 1):
        back = [n - index[name] for name in node.inputs]
        name, numbers = _described(node, back)
        code, fields = next((i, fields) for i, (op, *fields) in enumerate(_OPERATIONS) if op == name)
        parts += [_number(code + 8 * back[0]), *(_number(numbers[field]) for field in fields)]
        if isinstance(node.operation, Conv | Linear):
            parts.append(_tensor(node, node.operation.weight, values))
            parts.append(_written(node, node.operation.bias, "float16" if values == "int8" else values).tobytes())
    data = b"FTP1" + b"".join(parts)
    return data + zlib.crc32(data).to_bytes(4, "little")


def entropy_bits(graph: Graph, values: Values) -> float:
    """The entropy of masks and values: what a packed file cannot be smaller than.

    That is log2 of the ways to choose as many places in each tensor, and each written value at its width: weights that
    are not 0 as written, biases, and int8's scales.
    """
    bits = 0.0
    for node in graph.nodes:
        if isinstance(node.operation, Conv | Linear):
            scales, written = _quantised(node, node.operation.weight, values)
            size, kept = written.size, int(np.count_nonzero(written))
            ways = math.lgamma(size + 1) - math.lgamma(kept + 1) - math.lgamma(size - kept + 1)
            width = 4 if values == "float32" else 2
            bits += ways / math.log(2) + 8 * (written.itemsize * kept + len(scales) + width * node.operation.bias.size)
    return bits


def _described(node: Node, back: list[int]) -> tuple[str, dict[str, int]]:
    match node.operation:
        case Conv(weight, _, stride, padding, groups):
            fields = {"kernel": weight.shape[2], "stride": stride, "padding": padding}
            return "depthwise" if groups > 1 else "conv", fields | {"outputs": len(weight)}
        case Linear(weight):
            return "linear", {"outputs": len(weight)}
        case Clip(most):
            if most != math.inf and not (most == int(most) and 0 < most < 2**28):
                raise ValueError(f"{node.name}: a limit must be a whole number in a packed network, got {most}")
            return "clip", {"most": 0 if most == math.inf else int(most)}
        case Add():
            return "add", {"back": back[1]}
        case MaxPool(kernel, stride):
            return "max_pool", {"kernel": kernel, "stride": stride}
        case _:
            return "mean_pool", {}


def _number(value: int) -> bytes:
    assert 0 <= value < 2**28, value
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _tensor(node: Node, weight: Floats, values: Values) -> bytes:
    scales, written = _quantised(node, weight, values)
    flat = written.reshape(-1)
    return b"".join((scales.tobytes(), _places(flat != 0), flat[flat != 0].tobytes()))


def _quantised(node: Node, weight: Floats, values: Values) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """One scale a row (none but for int8), and the weights as they are written."""
    if values != "int8":
        return np.zeros(0, np.uint8), _written(node, weight, values)
    _check(node, weight, 127 * 2.0**7)
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    largest = np.abs(rows).max(axis=1)
    # The smallest step of 2^(1/8) with which the largest weight is 127 at most.
    steps = np.ceil(8 * (np.log2(np.maximum(largest, 2.0**-24) / 127) + 24))
    scales = np.clip(steps, 0, 255).astype(np.uint8)
    whole = np.rint(rows / (2.0 ** (scales / 8.0 - 24))[:, None])
    return scales, np.clip(whole, -127, 127).astype(np.int8).reshape(weight.shape)


def _written(node: Node, numbers: Floats, values: Values) -> NDArray[Any]:
    if values == "float32":
        _check(node, numbers, math.inf)
        return numbers.astype("<f4")
    _check(node, numbers, _LARGEST_HALF)
    return numbers.astype("<f2")


def _check(node: Node, numbers: Floats, largest: float) -> None:
    if not np.isfinite(numbers).all():
        raise ValueError(f"{node.name}: weights must be finite to be packed; the run has diverged")
    if np.abs(numbers).max(initial=0) > largest:
        raise ValueError(f"{node.name}: numbers must be at most {largest:g} to be packed like this; use float32")


def _places(keep: NDArray[np.bool_]) -> bytes:
    """Where `keep` is True: gaps before the kept weights, or before the pruned ones, in Rice codes; the shortest."""
    sizes: list[tuple[int, int, int]] = []
    for told, chosen in enumerate((keep, ~keep)):
        ends = np.flatnonzero(chosen) - np.arange(np.count_nonzero(chosen))  # the sum of gaps up to each
        gaps = np.diff(ends, prepend=0)
        likely = (int(gaps.sum()) // max(1, len(gaps))).bit_length()  # the best is this or one or two less
        for low in range(max(0, likely - 2), likely + 1):
            length = int((gaps >> low).sum()) + len(gaps)
            sizes.append(((length + 7) // 8 + (len(gaps) * low + 7) // 8, told, low))
    _, told, low = min(sizes)
    gaps = np.diff(np.flatnonzero(~keep if told else keep), prepend=-1) - 1
    ends = np.cumsum((gaps >> low) + 1) - 1
    unary = np.zeros(int(ends[-1]) + 1 if len(ends) else 0, np.uint8)
    unary[ends] = 1
    high, rests = np.packbits(unary).tobytes(), (gaps[:, None] >> np.arange(low)[::-1]) & 1
    return _number(32 * told + low) + _number(len(high)) + high + np.packbits(rests.astype(np.uint8)).tobytes()
