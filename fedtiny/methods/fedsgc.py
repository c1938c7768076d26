"""FedSGC: clients move their own masks, and the direction in which the global weights move has a say.

Tian, Liu, Li, Cheung and Wang, "Gradient-Congruity Guided Federated Sparse Training", arXiv 2405.01189, 2024; as
secondary sources describe it: the whole text could not be had when this was written.

1. Start, rounds and server are those of FedDST: a magnitude mask with ERK's layer densities; clients exchange k weights
   a layer in adjusting rounds; the mean over owners; the union of masks pruned by magnitude.
2. The server keeps d = sign(theta^{r+1} - theta^r), and sends it with the order of an adjusting round.
3. Client, with delta = sign(w - w0) of its training so far: of the k weights to drop, the first lambda k are the
   smallest with d delta < 0, those that trained against the federation; the rest are the smallest of all.
4. Of the k weights to grow, with delta = -sign(g): the first lambda k are those of largest |g| with d delta > 0, whose
   step would go along; the rest have the largest |g| of all. A sign of 0 is in neither class.

Decided here. A pruned weight does not move, so the d of a single round says nothing where weights grow; the server
keeps the last direction that a weight had while any client trained it, and that of weights that clients grew and
the vote rejected. Who is not asked in a round counts nothing, as in every method here: to count it with its old
weights (Eq. 7) would slow this method alone by cohort / clients. `guided` is the paper's lambda, said to be 0.01: at
which FedSGC differs from FedDST in a hundredth of the exchanged weights; ours is 0.5, and lambda k is rounded up.
Better than the public code, in which no map reaches the client and no mask ever moves.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedtiny.methods.base import ServerState
from fedtiny.methods.readjusting import Readjusting
from fedtiny.payload.messages import Order
from fedtiny.payload.training import Training
from fedtiny.sparse.network import Network, Weights

__all__ = ["FedSGC"]


class FedSGC(Readjusting):
    """FedDST in which the direction of the global weights has a say (Tian et al., 2024)."""

    name: Literal["fedsgc"] = "fedsgc"
    guided: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the exchanged weights that the global directions choose first: the paper's lambda."""

    def sketch(self, network: Network, rng: np.random.Generator) -> ServerState:
        nowhere = {_KEY + name: torch.zeros(shape, dtype=torch.int8) for name, shape in network.prunable.items()}
        return replace(super().sketch(network, rng), memory=nowhere)

    def order(self, network: Network, state: ServerState, training: Training) -> Order:
        order = super().order(network, state, training)
        if order.adjust is None:
            return order
        signs = {name: state.memory[_KEY + name] for name in order.adjust.count}
        return replace(order, adjust=order.adjust.model_copy(update={"guided": self.guided}), signs=signs)

    def remember(self, state: ServerState, weights: Weights, kept: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The direction of each weight's last change, from the weights before they are pruned again."""
        return {
            _KEY + name: torch.where(
                keep, (weights[name] - state.weights[name]).sign().to(torch.int8), state.memory[_KEY + name]
            )
            for name, keep in kept.items()
        }


_KEY = "direction/"
