"""A named random stream for every place in a run.

A stream depends on the run's seed and on its own name alone, never on what was drawn elsewhere: a client draws
the same numbers whichever process plays it and whoever played before.
"""

import hashlib

import numpy as np

__all__ = ["number", "stream"]


def _entropy(seed: int, path: tuple[str | int, ...]) -> int:
    return int.from_bytes(hashlib.sha256(repr((seed, *path)).encode()).digest()[:16], "little")


def stream(seed: int, *path: str | int) -> np.random.Generator:
    """The random stream of one place, for example `stream(seed, "client", 3, "round", 12)`."""
    return np.random.default_rng(_entropy(seed, path))


def number(seed: int, *path: str | int) -> int:
    """A seed in [0, 2**31) for libraries that take only a number."""
    return _entropy(seed, path) % 2**31
