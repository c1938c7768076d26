"""What an exported network reaches: measured on the file itself, on this machine."""

import time
from collections.abc import Callable, Mapping
from statistics import median

import numpy as np
from numpy.typing import NDArray

from fedtiny.deploy.pixels import pixels
from fedtiny.export.graph import Floats

__all__ = ["Logits", "all_logits", "latencies"]

Logits = Callable[[Floats], Floats]
"""A network as a function: (N, C, H, W) float32 pixels in [0, 1] -> (N, classes) float32."""

_PORTION = 250


def all_logits(logits: Logits, images: NDArray[np.uint8]) -> Floats:
    """(N, classes) of (N, C, H, W) uint8 pictures, at least one, a portion at a time."""
    starts = range(0, len(images), _PORTION)
    return np.concatenate([logits(pixels(images[i : i + _PORTION])) for i in starts])


def latencies(networks: Mapping[str, Logits], picture: Floats, seconds: float = 0.5) -> dict[str, float]:
    """Seconds that each network takes for one picture: the median over calls in turns.

    Args:
        networks: The networks by name.
        picture: (1, C, H, W) float32.
        seconds: How long to measure each, about; three turns at least.
    """
    for logits in networks.values():
        logits(picture)
    told: dict[str, list[float]] = {name: [] for name in networks}
    end = time.perf_counter() + seconds * len(networks)
    while min(map(len, told.values())) < 3 or time.perf_counter() < end:
        for name, logits in networks.items():
            start = time.perf_counter()
            logits(picture)
            told[name].append(time.perf_counter() - start)
    return {name: median(times) for name, times in told.items()}
