"""The weighted mean of what clients send, the same to the bit in whatever order it comes.

Floating-point addition is not associative, so a sum depends on the order of its terms, unless no addition rounds. Here
none does: each term is cut into a coarse part, a multiple of 2**-6, and a fine one, a multiple of 2**-44 below that
(what is finer is rounded off, term by term). Multiples of one unit add up exactly in float64 as long as the sum stays
below 2**53 units: 1.4e14 for the coarse sum, and 65,536 terms for the fine one. Cutting is adding a number so large
that the rounding of the addition does it (Demmel and Nguyen, "Fast Reproducible Floating-Point
Summation", 2013).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fedtiny.payload.messages import Upload
from fedtiny.payload.packing import Layout, Packing
from fedtiny.sparse.network import Weights

__all__ = ["MOST_EXAMPLES", "ExactSum", "OwnersMean", "WeightedMean", "exactness_problems"]

_COARSE = 1.5 * 2.0 ** (52 - 6)
_FINE = 1.5 * 2.0 ** (52 - 44)

MOST_EXAMPLES = 300_000
"""Of one client: times 1e8, the most that an upload may hold, a term must be below 2**45 for its cut to be exact."""
_MOST_TOGETHER = 1_400_000
_MOST_CLIENTS = 65_536


def exactness_problems(examples: Sequence[int]) -> list[str]:
    """Why sums over these clients might round, and so depend on who answers first: a line each.

    Args:
        examples: Of each client that may be asked at once. A selection asks all of them, whatever a round does.
    """
    most, together, clients = max(examples, default=0), sum(examples), len(examples)
    bounds = (
        ("each must hold", " training examples", most, MOST_EXAMPLES, "raise clients or lower split.limit"),
        ("together must hold", " training examples", together, _MOST_TOGETHER, "lower split.limit"),
        ("must be", "", clients, _MOST_CLIENTS, "lower it"),
    )
    return [
        f"clients: {rule} at most {bound:,}{what}, or sums over them would round, got {got:,}; {way_out}"
        for rule, what, got, bound, way_out in bounds
        if got > bound
    ]


class ExactSum:
    """A sum of float32 vectors times whole numbers: the same to the bit in any order. It holds two vectors.

    A place that is exactly 0 in every term stays exactly 0.
    """

    def __init__(self, size: int) -> None:
        """Starts from nothing.

        Args:
            size: Numbers in a vector.
        """
        self._coarse, self._fine, self._term, self._cut = torch.zeros(4, size, dtype=torch.float64)

    def add(self, values: Tensor, weight: int) -> None:
        """Adds weight * values; these are not changed.

        Args:
            values: (size,) float32, within 1e8.
            weight: Within the bounds of `exactness_problems`, or the sum may round.
        """
        term, cut = self._term, self._cut
        term.copy_(values).mul_(weight)  # exact: 24 bits times 29
        torch.add(term, _COARSE, out=cut).sub_(_COARSE)
        self._coarse.add_(cut)
        term.sub_(cut).add_(_FINE).sub_(_FINE)
        self._fine.add_(term)

    @property
    def total(self) -> Tensor:
        """(size,) float64."""
        return torch.add(self._coarse, self._fine)


class WeightedMean:
    """sum_k n_k x_k / sum_k n_k of vectors x_k, whatever their order."""

    def __init__(self) -> None:
        """Starts from nothing."""
        self._sum: ExactSum | None = None
        self._weight = 0

    def add(self, values: Tensor, weight: int) -> None:
        """Takes one client's vector, (size,) float32; it is not changed."""
        if self._sum is None:
            self._sum = ExactSum(len(values))
        self._sum.add(values, weight)
        self._weight += weight

    def result(self) -> Tensor:
        """(size,) float32."""
        assert self._sum is not None
        return (self._sum.total / self._weight).float()


class OwnersMean:
    """theta_j = sum_k n_k m_kj theta_kj / sum_k n_k m_kj: the mean over the clients that keep weight j, in any order.

    What no client keeps is 0. FedDST (Bibikar et al., AAAI 2022) aggregates so, and so does LotteryFL.
    """

    def __init__(self, layout: Layout) -> None:
        """Starts from nothing.

        Args:
            layout: Names and shapes of the network.
        """
        self._whole = Packing.of(layout, None)
        self._sum = ExactSum(self._whole.size)
        self._weight = torch.zeros(self._whole.size, dtype=torch.int64)

    def add(self, upload: Upload) -> None:
        """Takes one upload with weights, packed under a mask of its own."""
        assert upload.weights is not None
        ones = upload.packing.unpack(torch.ones(upload.packing.size))
        self._sum.add(self._whole.pack(upload.weights), upload.examples)
        self._weight += self._whole.pack(ones).to(torch.int64) * upload.examples

    @property
    def votes(self) -> Weights:
        """Name -> float32 of its shape: the examples of the clients that keep each weight, together; whole numbers."""
        return self._whole.unpack(self._weight)

    def result(self, otherwise: Weights | None = None) -> Weights:
        """The means by name, float32.

        Args:
            otherwise: What stands where no client keeps the weight; None is 0.
        """
        mean = (self._sum.total / self._weight.clamp(min=1)).float()
        if otherwise is not None:
            mean = torch.where(self._weight > 0, mean, self._whole.pack(otherwise))
        return self._whole.unpack(mean)
