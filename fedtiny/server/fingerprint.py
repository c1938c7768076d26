"""A fingerprint of a model, to the bit."""

import hashlib

import torch

from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights

__all__ = ["fingerprint"]


def fingerprint(weights: Weights, mask: Mask | None) -> str:
    """SHA-256 over names, bytes of the weights and bits of the mask, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    keep = {} if mask is None else mask.keep
    for name in sorted(keep):
        digest.update(name.encode() + keep[name].to(torch.uint8).contiguous().numpy().tobytes())
    return digest.hexdigest()
