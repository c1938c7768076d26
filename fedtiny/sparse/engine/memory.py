"""Buffers for activations, whose memory is used again instead of being fetched from the system in every step.

PyTorch asks glibc for aligned memory, and what it frees rarely fits its next request: the C library must allow for the
alignment again. Each step would then fault in tens of megabytes anew, which takes as long as its arithmetic. Plain
memory, aligned here, comes back in the same place.
"""

import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

__all__ = ["buffer", "logged"]

_ALIGNMENT = 64
_logs: list[list[tuple[int, int]]] = []


def buffer(count: int, like: Tensor) -> Tensor:
    """(count,) uninitialised numbers of the type of `like`."""
    size = count * like.element_size()
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.__array_interface__["data"][0] % _ALIGNMENT
    for log in _logs:
        log.append((time.time_ns(), size))
        weakref.finalize(raw, _forget, log, size)
    return torch.from_numpy(raw[start : start + size]).view(like.dtype)


def _forget(log: list[tuple[int, int]], size: int) -> None:
    log.append((time.time_ns(), -size))


@contextmanager
def logged() -> Iterator[list[tuple[int, int]]]:
    """Lists (nanoseconds, bytes) of each buffer that is made (positive) or freed (negative) in the meantime."""
    log: list[tuple[int, int]] = []
    _logs.append(log)
    try:
        yield log
    finally:
        _logs.remove(log)
