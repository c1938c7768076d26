"""Reads a packed network. Needs NumPy and `graph.py`, nothing else; docs/packed.md has the format byte by byte."""

import struct
import zlib

import numpy as np

from fedtiny.export.graph import Add, Clip, Conv, Floats, Graph, Linear, MaxPool, MeanPool, Node, Operation, Shape

__all__ = ["MAGIC", "VALUES", "unpack"]

MAGIC = b"FedTiny\x01"
VALUES = ("float32", "float16", "int8")
MOST = 2**26  # weights of a network, and numbers of an output: a file of a few bytes must not take all memory


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.room = data, 0, MOST

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise ValueError("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        """7 bits a byte, the lowest first; the highest bit says that more follow."""
        value = 0
        for shift in range(0, 35, 7):
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number has more than 5 bytes")

    def floats(self, count: int, kind: str = "<f4") -> Floats:
        values = np.frombuffer(self.take(count * np.dtype(kind).itemsize), kind).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("a value is not finite")
        return values

    def kept(self, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """Places of the kept weights: all, a bitmap, or gaps in Rice code."""
        (code,) = self.take(1)
        if code == 0:
            return np.arange(min(size, len(self.data)))
        if code == 1:
            return np.flatnonzero(np.unpackbits(np.frombuffer(self.take(-(-size // 8)), np.uint8), count=size))
        count, low = self.number(), code - 2
        bits = np.unpackbits(np.frombuffer(self.take(self.number()), np.uint8))
        ends = np.flatnonzero(bits == 0)
        if low > 24 or count > len(ends):
            raise ValueError("a mask's code is wrong")
        gaps, at = np.zeros(count, np.int64), 0
        for i in range(count):  # a gap: its quotient by 2^low as so many ones and a zero, then `low` bits
            end = int(ends[min(int(np.searchsorted(ends, at)), len(ends) - 1)])
            rest = bits[end + 1 : end + 1 + low]
            gaps[i] = ((end - at) << low) + int("".join(map(str, rest)) or "0", 2)
            at = end + 1 + low
        if at > len(bits) or (count and not 0 <= gaps.min() <= gaps.max() < size):
            raise ValueError("a mask's code is wrong")
        places = np.cumsum(gaps + 1) - 1
        if count and places[-1] >= size:
            raise ValueError("a mask keeps weights that there are not")
        return places

    def weight(self, shape: Shape, values: str) -> Floats:
        size = int(np.prod(shape, dtype=object))
        if not 0 < size <= self.room:
            raise ValueError(f"a tensor has shape {shape}")
        self.room -= size
        flat, places = np.zeros(size, np.float32), self.kept(size)
        if values == "int8":
            scales = self.floats(shape[0])
            flat[places] = self.floats(len(places), "i1") * scales[places // (size // shape[0])]
        else:
            flat[places] = self.floats(len(places), {"float32": "<f4", "float16": "<f2"}[values])
        return flat.reshape(shape)

    def operation(self, code: int, before: Shape, values: str) -> Operation:
        if code in (0, 6):
            outputs, kernel, stride, padding = (self.number() for _ in range(4))
            inputs, groups = (1, before[0]) if code else (before[0], 1)
            weight = self.weight((outputs, inputs, kernel, kernel), values)
            return Conv(weight, self.floats(outputs), stride, padding, groups)
        if code == 1:
            outputs = self.number()
            return Linear(self.weight((outputs, *before), values), self.floats(outputs))
        if code == 2:
            return Clip(float(self.number()) or float("inf"))
        if code == 3:
            return Add()
        if code == 4:
            return MaxPool(self.number(), self.number())
        if code == 5:
            return MeanPool()
        raise ValueError("there is no operation 7")


def unpack(data: bytes) -> tuple[Graph, tuple[str, ...]]:
    """The network and the names of its classes.

    Raises:
        ValueError: It is no such file, or a broken one; says why, in a line.
    """
    reader = _Reader(data)
    if reader.take(min(len(data), 8)) != MAGIC:
        raise ValueError("it does not begin as a packed network of version 1 does")
    if struct.unpack("<I", reader.take(4))[0] != zlib.crc32(data[12:]):
        raise ValueError("its checksum does not match: it was cut or changed")
    try:
        return _network(reader)
    except ValueError as error:
        raise ValueError(f"it is broken at byte {reader.at}: {error}") from None


def _network(reader: _Reader) -> tuple[Graph, tuple[str, ...]]:
    kind = reader.number()
    if kind >= len(VALUES):
        raise ValueError(f"there is no kind of values {kind}")
    image = (reader.number(), reader.number(), reader.number())
    classes = tuple(reader.take(reader.number()).decode().split("\n"))
    nodes: list[Node] = []
    shapes: list[Shape] = [image]
    for i in range(1, reader.number() + 1):
        back, code = divmod(reader.number(), 8)
        sources = [i - back, i - reader.number()] if code == 3 else [i - back]
        if not all(0 <= source < i for source in sources):
            raise ValueError(f"node {i} reads one that is not before it")
        operation = reader.operation(code, shapes[sources[0]], VALUES[kind])
        shape = operation.shape([shapes[x] for x in sources])
        if not 0 < np.prod(shape, dtype=object) <= MOST:
            raise ValueError(f"node {i} has shape {shape}")
        shapes.append(shape)
        nodes.append(Node(str(i), operation, tuple(str(x) if x else "image" for x in sources), shape))
    if len(shapes[-1]) != 1 or len(shapes) == 1 or len(classes) != shapes[-1][0]:
        raise ValueError(f"the last node must have a number for each of {len(classes)} classes, got {shapes[-1]}")
    if reader.at != len(reader.data):
        raise ValueError(f"{len(reader.data) - reader.at} bytes follow the last node")
    return Graph(image, tuple(nodes)), classes
