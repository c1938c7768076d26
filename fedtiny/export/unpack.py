"""Reads a packed network; needs NumPy alone, so it can be copied away. docs/packed.md has the format byte by byte."""

import math
import zlib
from typing import Any

import numpy as np

OPERATIONS = (
    "conv outputs kernel stride padding|depthwise kernel stride padding|linear outputs|clip most|add back|"
    "max_pool kernel stride|mean_pool"
)


def unpack(data: bytes, limit: int = 2**26) -> tuple[tuple[int, int, int], list[str], list[dict[str, Any]]]:
    """(channels, height, width), the classes' names, and the nodes.

    A node is a dictionary of its `op`, its `inputs` (0 is the picture, n the n-th node), the numbers of its operation,
    and `weight` and `bias` (float32) where it has them. The last node gives the logits.

    Args:
        data: The file.
        limit: Weights that all tensors together may have, pruned ones included.

    Raises:
        ValueError: This is no packed network, or a damaged one.
    """
    body, at, left = memoryview(data)[4:-4], 0, limit

    def check(holds: bool, rule: str) -> None:
        if not holds:
            raise ValueError(f"{rule} (byte {at + 4})")

    def take(dtype: str, count: int) -> np.ndarray[Any, Any]:
        nonlocal at
        at += (size := count * np.dtype(dtype).itemsize)
        check(at <= len(body), "it must not end before its last node")
        return np.frombuffer(body, dtype, count, at - size)

    def number() -> int:
        value = shift = 0
        while (byte := int(take("u1", 1)[0])) > 127:
            check(shift < 21, "a number must be below 2^28")
            value, shift = value + (byte - 128 << shift), shift + 7
        return value + (byte << shift)

    def bits(count: int) -> np.ndarray[Any, Any]:
        return np.unpackbits(take("u1", -(-count // 8)), count=count)

    def kept(size: int) -> np.ndarray[Any, Any]:
        told, low = divmod(number(), 32)  # told: 0 of the kept weights, 1 of the pruned ones
        check(8 * (high := number()) < size + 8, "places must lie in their tensor")
        ends = np.flatnonzero(bits(8 * high))
        check(told < 2 and len(ends) << low <= 2 * size, "places must be told in as few bits as they need")
        rests = bits(len(ends) * low).reshape(len(ends), low) @ (1 << np.arange(low, dtype=np.int64)[::-1])
        places = np.cumsum((np.diff(ends, prepend=-1) - 1 << low) + rests + 1) - 1
        check(not len(ends) or places[-1] < size, "places must lie in their tensor")
        keep = np.full(size, told == 1)
        keep[places] = told == 0
        return keep

    def tensor(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        nonlocal left
        left -= (size := math.prod(shape))
        check(left >= 0 < size, f"tensors must have weights, not over {limit} together")
        scales = 2 ** (take("u1", shape[0] if kind == 2 else 0) / np.float32(8) - 24)
        values, keep = np.zeros(size, np.float32), kept(size)
        values[keep] = take(("<f4", "<f2", "i1")[kind], int(keep.sum()))
        return values.reshape(shape) * (scales.reshape(-1, *[1] * (len(shape) - 1)) if kind == 2 else np.float32(1))

    sound = data[:4] == b"FTP1" and zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little")
    check(sound and (kind := number()) < 3, "it must begin with FTP1 and a kind below 3, and end with its CRC-32")
    image, names = (number(), number(), number()), bytes(take("u1", number())).decode().split("\n")
    nodes, channels = list[dict[str, Any]](), [image[0]]
    check(0 < (count := number()) <= 2**12, "it must have between 1 and 4096 nodes")
    for n in range(1, 1 + count):
        back, code = divmod(number(), 8)
        op, *fields = [*OPERATIONS.split("|"), "none"][code].split()
        node: dict[str, Any] = {"op": op, **{field: number() for field in fields}}
        node["inputs"] = [n - back, *([n - node["back"]] if op == "add" else [])]
        check(code < 7 and 0 <= min(node["inputs"]) <= max(node["inputs"]) < n, "a node must read earlier ones")
        channels.append(node.get("outputs", read := channels[n - back]))
        if code < 3:
            square = [node[field] for field in fields if field == "kernel"] * 2
            node["weight"] = tensor((channels[n], 1 if op == "depthwise" else read, *square))
            node["bias"] = take("<f2" if kind else "<f4", channels[n]).astype(np.float32)
            check(bool(np.isfinite(node["weight"]).all() and np.isfinite(node["bias"]).all()), "values must be finite")
        nodes.append(node)
    check(at == len(body), "it must end after its last node")
    return image, names, nodes
