"""How the trained weights of a round's clients become one: the mean, or what a few liars cannot move far.

Each is coordinate by coordinate over packed weights, so a mask costs nothing; each gives the same bits in whatever
order clients answer. `mean` holds one sum; the others hold all uploads of a round until it is over.
"""

from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from fedtiny.methods.average import WeightedMean
from fedtiny.payload.messages import Upload
from fedtiny.value import Value

__all__ = ["AnyAggregation", "Fold", "Krum", "Mean", "Median", "TrimmedMean"]


class Fold(Protocol):
    """Takes uploads one by one, and gives what they come to."""

    def add(self, upload: Upload) -> None:
        """Takes one upload with weights."""

    def result(self) -> Tensor:
        """(packing.size,) float32."""


class _MeanFold:
    def __init__(self) -> None:
        self._mean = WeightedMean()

    def add(self, upload: Upload) -> None:
        assert upload.values is not None
        self._mean.add(upload.values, upload.examples)

    def result(self) -> Tensor:
        return self._mean.result()


class _Gathering:
    """Keeps all uploads, and gives them as one matrix in the order of the clients' ids."""

    def __init__(self) -> None:
        self._values: dict[int, Tensor] = {}

    def add(self, upload: Upload) -> None:
        assert upload.values is not None
        self._values[upload.client] = upload.values

    def gathered(self) -> Tensor:
        """(clients, packing.size) float32."""
        return torch.stack([self._values[client] for client in sorted(self._values)])


class _TrimmedFold(_Gathering):
    def __init__(self, trim: float) -> None:
        super().__init__()
        self._trim = trim

    def result(self) -> Tensor:
        ordered = self.gathered().sort(dim=0).values
        cut = int(self._trim * len(ordered) + 1e-9)
        cut = min(cut, (len(ordered) - 1) // 2)
        return ordered[cut : len(ordered) - cut].double().mean(0).float()


class _KrumFold(_Gathering):
    def __init__(self, liars: int, chosen: int) -> None:
        super().__init__()
        self._liars, self._chosen = liars, chosen

    def result(self) -> Tensor:
        values = self.gathered()
        clients = len(values)
        distances = torch.cdist(values.double(), values.double(), compute_mode="donot_use_mm_for_euclid_dist") ** 2
        nearest = max(1, clients - self._liars - 2)
        # A client's own distance, 0, comes first; ties in the score go to the lower id.
        scores = distances.sort(dim=1).values[:, 1 : nearest + 1].sum(1)
        best = scores.argsort(stable=True)[: self._chosen]
        return values[best.sort().values].double().mean(0).float()


class Mean(Value):
    """The mean weighted by examples: FedAvg (McMahan et al., AISTATS 2017)."""

    name: Literal["mean"] = "mean"

    def fold(self) -> Fold:
        """A fold of one round."""
        return _MeanFold()

    def least(self) -> int:
        """Clients that must answer for it to mean anything."""
        return 1

    def held_bytes(self, size: int, clients: int) -> int:
        """Bytes held for a round: an exact sum's four vectors of float64, and the upload of `size` numbers at hand."""
        return 36 * size


class Median(Value):
    """The median of each weight, all clients alike: holds against fewer liars than half (Yin et al., ICML 2018)."""

    name: Literal["median"] = "median"

    def fold(self) -> Fold:
        """A fold of one round."""
        return _TrimmedFold(0.5)

    def least(self) -> int:
        """Clients that must answer for it to mean anything."""
        return 3

    def held_bytes(self, size: int, clients: int) -> int:
        """Bytes held for a round at most: all uploads of `size` numbers, again as a matrix, and that sorted."""
        return 20 * size * clients


class TrimmedMean(Value):
    """The mean of each weight without its smallest and largest values, all clients alike (Yin et al., ICML 2018)."""

    name: Literal["trimmed_mean"] = "trimmed_mean"
    trim: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Share of the clients cut off at each end, rounded down: it holds against so many liars."""

    def fold(self) -> Fold:
        """A fold of one round."""
        return _TrimmedFold(self.trim)

    def least(self) -> int:
        """Clients that must answer for it to cut off anybody."""
        return next(n for n in range(3, 1000) if int(self.trim * n + 1e-9) >= 1)

    def held_bytes(self, size: int, clients: int) -> int:
        """Bytes held for a round at most: all uploads of `size` numbers, again as a matrix, and that sorted."""
        return 20 * size * clients


class Krum(Value):
    """The client, or the mean of some, nearest to the others (Blanchard et al., NeurIPS 2017).

    A client's score is the sum of its squared distances to the clients - liars - 2 nearest others; the least wins.
    """

    name: Literal["krum"] = "krum"
    liars: Annotated[int, Field(ge=0)] = 1
    """Clients of a round that may lie; it holds as long as at least 2 * liars + 3 and chosen + liars + 2 answer."""
    chosen: Annotated[int, Field(ge=1)] = 1
    """Clients of least score to average: 1 is Krum, more is Multi-Krum."""

    def fold(self) -> Fold:
        """A fold of one round."""
        return _KrumFold(self.liars, self.chosen)

    def least(self) -> int:
        """Clients that must answer for its promise to hold."""
        return max(2 * self.liars + 3, self.chosen + self.liars + 2)

    def held_bytes(self, size: int, clients: int) -> int:
        """Bytes held for a round at most: all uploads of `size` numbers, again as a matrix, and that in float64."""
        return 20 * size * clients


AnyAggregation = Annotated[Mean | Median | TrimmedMean | Krum, Field(discriminator="name")]
