"""Fingerprints, to the bit: of a model, and of what it learns from."""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights

__all__ = ["fingerprint", "fingerprint_of"]


def fingerprint(weights: Weights, mask: Mask | None) -> str:
    """SHA-256 over names, bytes of the weights and bits of the mask, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    keep = {} if mask is None else mask.keep
    for name in sorted(keep):
        digest.update(name.encode() + keep[name].to(torch.uint8).contiguous().numpy().tobytes())
    return digest.hexdigest()


def fingerprint_of(arrays: Iterable[NDArray[np.generic]]) -> str:
    """SHA-256 over types, shapes and bytes of the arrays, in their order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
