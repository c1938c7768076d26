"""Who may see which training example: the server's public ones, the validation set, the clients."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedtiny import seeds
from fedtiny.data.partition import Partition
from fedtiny.value import Value

__all__ = ["Shares", "Split"]

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Disjoint index arrays into the training set; the test set is another set altogether.

    Attributes:
        public: What the server itself holds, to pretrain on.
        validation: What choices may be made by; nobody trains on it.
        clients: What each client holds.
    """

    public: Indices
    validation: Indices
    clients: tuple[Indices, ...]


class Split(Value):
    """How many training examples do not go to clients."""

    public: Annotated[int, Field(ge=0)] = 100
    """Examples that the server holds to pretrain on; no client owns any of them."""
    validation: Annotated[int, Field(ge=0)] = 150
    """Examples set aside for validation; nobody trains on them."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Examples used of the training set, these two included; none is all."""

    def deal(self, labels: Indices, partition: Partition, clients: int, seed: int) -> Shares:
        """Deals the training set.

        Args:
            labels: (N,) class of each training example.
            partition: How the clients' part is dealt among them.
            clients: Number of clients.
            seed: The run's seed.

        Raises:
            ValueError: There are too few examples; names the numbers.
        """
        rest = seeds.stream(seed, "split").permutation(len(labels))[: self.limit]
        if self.public + self.validation >= len(rest):
            raise ValueError(
                f"split.public + split.validation must leave examples for the clients, "
                f"but {self.public} + {self.validation} are all of {len(rest)}"
            )
        public, rest = _take(rest, labels, self.public)
        validation, rest = _take(rest, labels, self.validation)
        rest = np.sort(rest)
        parts = partition.split(labels[rest], clients, seeds.stream(seed, "partition"))
        return Shares(public, validation, tuple(rest[part] for part in parts))


def _take(pool: Indices, labels: Indices, count: int) -> tuple[Indices, Indices]:
    """Takes `count` of `pool`, class by class in turn, so that every class is there as evenly as can be."""
    rank = np.empty(len(pool), dtype=np.int64)
    for label in np.unique(labels[pool]):
        same = np.flatnonzero(labels[pool] == label)
        rank[same] = np.arange(len(same))
    first = np.argsort(rank, kind="stable")
    return np.sort(pool[first[:count]]), pool[first[count:]]
