"""When a mask is adjusted, and how much of it."""

import math

__all__ = ["adjustment", "cosine_count"]


def adjustment(round: int, every: int, stop: int) -> int | None:
    """The 0-based number of the adjustment that round `round` makes; None if it makes none.

    Adjusting rounds are every, 2 * every, ... up to and including `stop`.
    """
    if round <= 0 or round > stop or round % every:
        return None
    return round // every - 1


def cosine_count(kept: int, round: int, stop: int, fraction: float) -> int:
    """Weights to exchange in a layer: fraction * (1 + cos(pi * round / stop)) * kept, rounded down.

    FedTiny's a_t with fraction 0.15. It is 0 from `stop` on: without that clamp the cosine would rise again.
    """
    if round >= stop:
        return 0
    return int(fraction * (1 + math.cos(math.pi * round / stop)) * kept)
