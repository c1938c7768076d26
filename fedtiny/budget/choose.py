"""The largest network that fits: the widest one that need not be pruned too far, at the highest density."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from fedtiny.config.budget import Limit

__all__ = ["Choice", "Needs", "NoneFits", "choose", "densities"]

Needs = Mapping[Limit, float]
"""What a network takes, by limit."""


class NoneFits(ValueError):
    """No network fits.

    Attributes:
        width: Of the smallest that there is.
        density: Of the same.
        needs: What that takes.
    """

    def __init__(self, width: int, density: float, needs: Needs) -> None:
        """Keeps the numbers."""
        self.width, self.density, self.needs = width, density, needs
        super().__init__(f"no width and density fits, {width} and {density:g} needs {dict(needs)}")


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        width: Of the network.
        density: Kept / prunable weights.
        needs: What it takes.
        binding: What the next higher density would take, of limits that it would pass; empty at density 1.
        narrowed: What the next larger width would take, of limits that it would pass; empty at the widest.
    """

    width: int
    density: float
    needs: Needs
    binding: Needs
    narrowed: Needs


def densities(least: float) -> list[float]:
    """Densities of three digits from the least to 1, ascending."""
    grid = sorted({round(k * 10.0**-e, e) for e in range(2, 9) for k in range(100, 1001)})
    return [density for density in grid if least <= density <= 1]


def choose(
    needs: Callable[[int, float], Needs], limits: Mapping[Limit, float], width: int, least_density: float
) -> Choice:
    """The widest network that fits at some density from `least_density` on, and the highest such density.

    Args:
        needs: Width, density -> what that network takes, of each limit; must not fall with either. Raises `ValueError`
            where there is no such network: its layers are too small to be pruned that far.
        limits: What there is.
        width: The widest.
        least_density: The least.

    Raises:
        NoneFits: Not even the narrowest fits.
    """
    grid, needs = densities(least_density), cache(needs)

    def exists(width: int, density: float) -> bool:
        with suppress(ValueError):
            needs(width, density)
            return True
        return False

    def first(width: int) -> int:
        """Index of the lowest density that there is of this width."""
        return min(bisect_left(grid, True, key=lambda density: exists(width, density)), len(grid) - 1)

    def passed(width: int, density: float) -> Needs:
        took = needs(width, density)
        return {name: took[name] for name, limit in limits.items() if took[name] > limit}

    def too_wide(width: int) -> bool:
        return bool(passed(width, grid[first(width)]))

    narrower = range(1, width)
    widest = width if not too_wide(width) else bisect_left(narrower, True, key=too_wide)
    if widest == 0:
        raise NoneFits(1, grid[first(1)], needs(1, grid[first(1)]))
    narrowed = {} if widest == width else passed(widest + 1, grid[first(widest + 1)])
    after = bisect_left(grid, True, lo=first(widest), key=lambda density: bool(passed(widest, density)))
    binding = {} if after == len(grid) else passed(widest, grid[after])
    density = grid[after - 1]
    return Choice(widest, density, needs(widest, density), binding, narrowed)
