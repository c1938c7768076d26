"""How training examples are dealt to clients: values that open Flower Datasets' partitioners."""

import warnings
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedtiny.value import Value

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

__all__ = ["Dirichlet", "Iid", "Partition", "Pathological", "Shards"]

Indices = NDArray[np.int64]


class _Dealing(Value):
    min_examples: Annotated[int, Field(ge=2)] = 10
    """Fewest examples a client may hold."""

    def _partitioner(self, clients: int, seed: int) -> "Partitioner":
        raise NotImplementedError

    def split(self, labels: Indices, clients: int, rng: np.random.Generator) -> list[Indices]:
        """Deals every example to one client at most; only shards and pathological leave any out.

        Args:
            labels: (N,) class of each example.
            clients: Number of parts to make.
            rng: The only source of randomness: equal streams give equal parts.

        Returns:
            `clients` sorted index arrays, disjoint.

        Raises:
            ValueError: `min_examples * clients > N`, or no such deal was found; names the numbers.
        """
        if self.min_examples * clients > len(labels):
            raise ValueError(
                f"{clients} clients with at least {self.min_examples} examples each need "
                f"{self.min_examples * clients}, but {len(labels)} are left for them; "
                f"lower clients or partition.min_examples"
            )
        # Imported here, as they take two seconds. The examples themselves never enter: only their labels do.
        from datasets import Dataset

        partitioner = self._partitioner(clients, int(rng.integers(2**31)))
        order = rng.permutation(len(labels))
        partitioner.dataset = Dataset.from_dict({"index": order, "label": labels[order]})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Flower warns at each redraw; only the last matters.
                parts = [np.array(partitioner.load_partition(i)["index"]) for i in range(clients)]
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(
                f"no {self!r} deal of {len(labels)} examples to {clients} clients was found "
                f"({' '.join(str(error).split())}); lower clients or partition.min_examples"
            ) from error
        smallest = min(len(part) for part in parts)
        if smallest < self.min_examples:
            raise ValueError(
                f"a client would get {smallest} examples, fewer than partition.min_examples "
                f"({self.min_examples}); lower clients or partition.min_examples"
            )
        return [np.sort(part).astype(np.int64) for part in parts]


class Iid(_Dealing):
    """Every client gets a random sample of equal size."""

    name: Literal["iid"] = "iid"

    def _partitioner(self, clients: int, seed: int) -> "Partitioner":
        from flwr_datasets.partitioner import IidPartitioner

        return IidPartitioner(clients)


class Dirichlet(_Dealing):
    """Label skew: each class is dealt to the clients in Dirichlet(alpha) proportions."""

    name: Literal["dirichlet"] = "dirichlet"
    alpha: Annotated[float, Field(gt=0)] = 0.5
    """Concentration; 0.1 is one or two classes a client, 100 is nearly IID."""

    def _partitioner(self, clients: int, seed: int) -> "Partitioner":
        from flwr_datasets.partitioner import DirichletPartitioner

        return DirichletPartitioner(clients, "label", self.alpha, self.min_examples, self_balancing=False, seed=seed)


class Shards(_Dealing):
    """Examples sorted by label are cut into equal shards; each client gets a few (McMahan et al. 2017).

    What does not fill a shard is left out.
    """

    name: Literal["shards"] = "shards"
    shards: Annotated[int, Field(ge=1)] = 2
    """Shards a client."""

    def _partitioner(self, clients: int, seed: int) -> "Partitioner":
        from flwr_datasets.partitioner import ShardPartitioner

        return ShardPartitioner(clients, "label", self.shards, seed=seed)


class Pathological(_Dealing):
    """Each client has examples of a fixed number of classes only; a class that nobody has is left out."""

    name: Literal["pathological"] = "pathological"
    classes: Annotated[int, Field(ge=1)] = 2
    """Classes a client."""

    def _partitioner(self, clients: int, seed: int) -> "Partitioner":
        from flwr_datasets.partitioner import PathologicalPartitioner

        return PathologicalPartitioner(clients, "label", self.classes, class_assignment_mode="deterministic", seed=seed)


Partition = Annotated[Iid | Dirichlet | Shards | Pathological, Field(discriminator="name")]
