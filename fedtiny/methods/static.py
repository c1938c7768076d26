"""Static pruning: one mask before training, never changed.

The control every pruning method has to beat. Layer densities are uniform, Erdos-Renyi (Mocanu et al. 2018), its form
for kernels (Evci et al. 2020) or FedTiny's noisy ones; within a layer the weights of largest magnitude stay (Han et
al. 2015), or random ones. With `pretraining.epochs` above 0, magnitudes are those of the network pretrained on public
data, without it those of the initial weights.
"""

from typing import Literal

import numpy as np

from fedtiny.methods.base import Density, Method, ServerState
from fedtiny.methods.initial import Score, initial_state
from fedtiny.payload.fleet import Federation
from fedtiny.sparse.allocate import Allocation, Uniform
from fedtiny.sparse.network import Network

__all__ = ["Static"]


class Static(Method):
    """One mask before training, never changed: by magnitude (Han et al., NeurIPS 2015) or at random."""

    name: Literal["static"] = "static"
    density: Density = 0.01
    """Kept / prunable weights, in (0, 1]."""
    allocation: Allocation = Uniform()
    """Density of each layer: uniform, er, erk or noisy."""
    score: Score = "magnitude"
    """Which weights of a layer stay: the largest, or random ones."""

    @property
    def target(self) -> float:
        return self.density

    def begin(self, network: Network, fleet: Federation, rng: np.random.Generator) -> ServerState:
        return initial_state(network, self.allocation, self.density, self.score, rng)

    def rests(self, round: int) -> bool:
        return True

    def check(self, network: Network, rng: np.random.Generator) -> None:
        self.allocation.counts(network.prunable, self.density, rng)
