"""FedRTS's beliefs: how often each weight was among the best, as a Beta distribution for every prunable weight."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from fedtiny.payload.messages import Upload
from fedtiny.payload.probes import Indices
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights
from fedtiny.sparse.select import top_indices

__all__ = ["Beliefs", "Votes"]


class Votes:
    """The examples behind each weight: those of the clients that have it among their best, in any order.

    Of kept weights the best are the `best[name]` largest; of pruned ones, those whose places a client sent. All are
    whole numbers, so their sums are exact.
    """

    def __init__(self, mask: Mask, best: Mapping[str, int]) -> None:
        """Starts from nothing.

        Args:
            mask: The mask that clients train under.
            best: Masked parameter -> kappa, in [1, kept].
        """
        self._places = {name: keep.flatten().nonzero().flatten() for name, keep in mask.keep.items()}
        self._best = best
        self._examples = {name: torch.zeros(keep.numel(), dtype=torch.int64) for name, keep in mask.keep.items()}
        self._total = 0

    def add(self, upload: Upload) -> None:
        """Takes one upload with weights."""
        assert upload.values is not None
        parts = upload.packing.parts(upload.values)
        for name, places in self._places.items():
            self._examples[name][places[top_indices(parts[name].abs(), self._best[name])]] += upload.examples
        for answer in upload.answers:
            if isinstance(answer, Indices):
                for name, places in answer.layers.items():
                    self._examples[name][places] += upload.examples
        self._total += upload.examples

    def outcomes(self, weights: Weights, share: float) -> dict[str, Tensor]:
        """X of every prunable weight: (N,) float64 in [0, 1].

        X = share * X_agg + (1 - share) * sum_k n_k X_k / sum_k n_k. X_k is 1 for the best of client k, and X_agg for
        the best of the aggregate; of pruned weights, which have no aggregate, X_agg is 0.5.

        Args:
            weights: The aggregated weights.
            share: gamma, in [0, 1].
        """
        result = {}
        for name, places in self._places.items():
            together = torch.full((len(self._examples[name]),), 0.5, dtype=torch.float64)
            kept = torch.zeros(len(places), dtype=torch.float64)
            kept[top_indices(weights[name].flatten()[places].abs(), self._best[name])] = 1.0
            together[places] = kept
            result[name] = share * together + (1 - share) * (self._examples[name].double() / self._total)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Beliefs:
    """Beta(alpha, beta) for every prunable weight.

    Attributes:
        alpha: Parameter name -> (N,) float32, 1 and what spoke for it.
        beta: Parameter name -> (N,) float32, 1 and what spoke against it.
    """

    alpha: Mapping[str, Tensor]
    beta: Mapping[str, Tensor]

    @classmethod
    def none(cls, sizes: Mapping[str, int]) -> Self:
        """Beta(1, 1), which says nothing, for so many weights of each parameter."""
        return cls(*({name: torch.ones(size) for name, size in sizes.items()} for _ in ("alpha", "beta")))

    def updated(self, outcomes: Mapping[str, Tensor], strength: float, where: Mapping[str, Tensor]) -> "Beliefs":
        """What is believed then: alpha + strength * X and beta + strength * (1 - X).

        Args:
            outcomes: Parameter name -> X, (N,) float64 in [0, 1].
            strength: lambda, above 0.
            where: Parameter name -> (N,) bool: weights that something was learnt of.
        """
        alpha, beta = dict(self.alpha), dict(self.beta)
        for name, x in outcomes.items():
            alpha[name] = (alpha[name].double() + strength * x * where[name]).float()
            beta[name] = (beta[name].double() + strength * (1 - x) * where[name]).float()
        return Beliefs(alpha, beta)

    def draw(self, name: str, rng: np.random.Generator) -> Tensor:
        """(N,) float64: one draw of each weight's distribution."""
        return torch.from_numpy(rng.beta(self.alpha[name].double().numpy(), self.beta[name].double().numpy()))
