"""Dense FedAvg: nothing is pruned.

McMahan, Moore, Ramage, Hampson and Agüera y Arcas, "Communication-Efficient Learning of Deep Networks from
Decentralized Data", AISTATS 2017.

Each round the server sends w, client k trains it to w_k on its n_k examples, and w := sum_k n_k w_k / sum_k n_k.
Batch-norm statistics are averaged like weights.
"""

from typing import Literal

import numpy as np

from fedtiny.methods.base import Method, ServerState
from fedtiny.payload.fleet import Federation
from fedtiny.sparse.network import Network

__all__ = ["Dense"]


class Dense(Method):
    """FedAvg without pruning (McMahan et al., AISTATS 2017)."""

    name: Literal["dense"] = "dense"

    def begin(self, network: Network, fleet: Federation, rng: np.random.Generator) -> ServerState:
        return ServerState(0, network.weights, None)

    def rests(self, round: int) -> bool:
        return True
