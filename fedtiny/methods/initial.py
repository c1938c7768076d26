"""The first mask of methods that choose it without asking anybody."""

from typing import Literal

import numpy as np
import torch

from fedtiny.methods.base import ServerState
from fedtiny.sparse.allocate import Allocation
from fedtiny.sparse.network import Network
from fedtiny.sparse.select import keep_top

__all__ = ["Score", "initial_state"]

Score = Literal["magnitude", "random"]


def initial_state(
    network: Network, allocation: Allocation, density: float, score: Score, rng: np.random.Generator
) -> ServerState:
    """The state before round 0 under a mask of the network's own weights.

    Args:
        network: The pretrained network.
        allocation: Says how many weights each layer keeps.
        density: Kept / prunable weights, in (0, 1].
        score: Which weights of a layer stay: the largest (Han et al., NeurIPS 2015), or random ones.
        rng: The method's own random stream.

    Raises:
        ValueError: The density is too low to keep one weight in each layer; names the least that does.
    """
    weights = dict(network.weights)
    counts = allocation.counts(network.prunable, density, rng)
    scores = {
        name: weights[name].abs() if score == "magnitude" else torch.from_numpy(rng.random(shape))
        for name, shape in network.prunable.items()
    }
    mask = keep_top(scores, counts)
    mask.apply_(weights)
    return ServerState(0, weights, mask)
