"""What an exported network reaches: measured on the file itself, on this machine."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from fedtiny.export.graph import Floats

__all__ = ["Tested", "latencies", "tested"]

Logits = Callable[[Floats], Floats]

_PORTION = 250


@dataclass(frozen=True, slots=True)
class Tested:
    """How a network does on the test set.

    Attributes:
        accuracy: Share of pictures classified correctly, in [0, 1].
        difference: Largest difference of a logit from PyTorch's.
        scale: Largest logit of PyTorch's, without its sign.
    """

    accuracy: float
    difference: float
    scale: float


def tested(logits: Logits, images: NDArray[np.uint8], labels: NDArray[np.int64], reference: Floats | None) -> Tested:
    """Runs all pictures through a network.

    Args:
        logits: The network.
        images: (N, C, H, W) uint8, at least one.
        labels: (N,) their classes.
        reference: (N, classes) what PyTorch says; None if this is it.
    """
    found = all_logits(logits, images)
    reference = found if reference is None else reference
    return Tested(
        float((found.argmax(1) == labels).mean()),
        float(np.abs(found - reference).max()),
        float(np.abs(reference).max()),
    )


def all_logits(logits: Logits, images: NDArray[np.uint8]) -> Floats:
    """(N, classes) of (N, C, H, W) uint8 pictures, a portion at a time."""
    starts = range(0, len(images), _PORTION)
    return np.concatenate([logits(images[i : i + _PORTION].astype(np.float32) / np.float32(255)) for i in starts])


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
