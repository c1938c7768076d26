"""Static pruning: one mask before training, never changed.

The control every pruning method has to beat. Layer densities are uniform, Erdos-Renyi kernel (Mocanu et al. 2018,
Evci et al. 2020) or FedTiny's noisy ones; within a layer the weights of largest magnitude stay (Han et al. 2015), or
random ones. With `pretraining.epochs` above 0, magnitudes are those of the network pretrained on public data, without
it those of the initial weights.
"""

from typing import Literal

import numpy as np
import torch

from fedtiny.methods.base import Density, Method, ServerState
from fedtiny.payload.fleet import Federation
from fedtiny.sparse.allocate import Allocation, Uniform
from fedtiny.sparse.network import Network
from fedtiny.sparse.select import keep_top

__all__ = ["Static"]


class Static(Method):
    """One mask before training, never changed: by magnitude (Han et al., NeurIPS 2015) or at random."""

    name: Literal["static"] = "static"
    density: Density = 0.01
    """Kept / prunable weights, in (0, 1]."""
    allocation: Allocation = Uniform()
    """Density of each layer: uniform, erk or noisy."""
    score: Literal["magnitude", "random"] = "magnitude"
    """Which weights of a layer stay: the largest, or random ones."""

    @property
    def target(self) -> float:
        return self.density

    def begin(self, network: Network, fleet: Federation, rng: np.random.Generator) -> ServerState:
        weights = dict(network.weights)
        counts = self.allocation.counts(network.prunable, self.density, rng)
        scores = {
            name: weights[name].abs() if self.score == "magnitude" else torch.from_numpy(rng.random(shape))
            for name, shape in network.prunable.items()
        }
        mask = keep_top(scores, counts)
        mask.apply_(weights)
        return ServerState(0, weights, mask)

    def rests(self, round: int) -> bool:
        return True

    def check(self, network: Network, rng: np.random.Generator) -> None:
        self.allocation.counts(network.prunable, self.density, rng)
