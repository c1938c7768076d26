"""What a few seeds can say: means with intervals, ranks, paired tests.

A 95 % interval of a mean is mean +- t(0.975, n - 1) s / sqrt(n), Student's t; s is the sample's standard deviation. A
paired t test asks whether the mean of the differences is 0 and takes them for normal. The sign-flip test (Fisher 1935)
takes nothing for granted but that a difference could as well have had the other sign: of all 2**n ways to choose the
signs, the share whose mean is as far from 0 as what was seen. It cannot go below 2 / 2**n: 0.25 with three seeds,
0.0625 with five.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Interval", "Paired", "interval", "mean_ranks", "paired"]

_EXACT = 20
"""Most differences whose signs are all tried."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and how sure it is.

    Attributes:
        mean: The mean.
        half: Half the width of its 95 % interval; None if one value says nothing of the spread.
        n: Values it is of.
    """

    mean: float
    half: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Paired:
    """Differences to a reference, seed by seed.

    Attributes:
        difference: Their mean, with its interval.
        t_p: P value of the paired t test; None if there are too few, or all are alike.
        flip_p: P value of the exact sign-flip test; None if there are none, or more than it tries all signs of.
        least_p: What `flip_p` cannot go below with so many.
    """

    difference: Interval
    t_p: float | None
    flip_p: float | None
    least_p: float


def interval(values: Sequence[float]) -> Interval:
    """The mean of at least one value, with its 95 % interval."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return Interval(mean, None, n)
    return Interval(mean, float(stats.t.ppf(0.975, n - 1)) * _deviation(values) / math.sqrt(n), n)


def _deviation(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (len(values) - 1))


def paired(values: Sequence[float], reference: Sequence[float]) -> Paired:
    """How values differ from the reference's, pair by pair; there must be one at least."""
    differences = [a - b for a, b in zip(values, reference, strict=True)]
    n, told = len(differences), interval(differences)
    spread = _deviation(differences) if n > 1 else 0.0
    t_p = None
    # Equal differences leave a spread of rounding.
    if spread > 1e-12 * max(1.0, abs(told.mean)):
        t_p = float(2 * stats.t.sf(abs(told.mean) / (spread / math.sqrt(n)), n - 1))
    return Paired(told, t_p, _sign_flip(differences) if n <= _EXACT else None, min(1.0, 2.0 ** (1 - n)))


def _sign_flip(differences: Sequence[float]) -> float:
    """The share of all choices of signs whose sum is as far from 0 as that of the differences."""
    sums = np.zeros(1)
    for x in differences:
        sums = np.concatenate([sums + x, sums - x])
    seen = abs(math.fsum(differences))
    return float(np.mean(np.abs(sums) >= seen - 1e-9 * max(1.0, seen)))


def mean_ranks(blocks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The average rank of each label, 1 for the largest value of a block; equals share the mean of their ranks.

    Args:
        blocks: Values by label, the same labels in each; at least one block.
    """
    labels = list(blocks[0])
    ranks = [stats.rankdata([-block[label] for label in labels]) for block in blocks]
    return {label: float(np.mean([rank[i] for rank in ranks])) for i, label in enumerate(labels)}
