"""Small dense: no pruning, but a narrower network with as many parameters as a pruned one keeps.

The control that asks whether pruning a large network is worth it (Zhu and Gupta, "To prune, or not to prune",
ICLR 2018 workshop; Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019). Training is FedAvg.

The network is of the family that `model` names, at the largest width with at most density * prunable + others
parameters, counted of the network as named. It is pretrained, sent, trained and counted as the network it is; figures
"of dense" are shares of the network as named, so that they stand beside those of pruned ones.

FedTiny's authors take other small networks (plain CNNs) or width * sqrt(density), which does not count what is never
pruned. Equal parameters are not equal FLOPs: both are reported.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from fedtiny.methods.base import Density, Method, ServerState
from fedtiny.models.zoo import AnyModel
from fedtiny.payload.fleet import Federation
from fedtiny.sparse.network import Network

__all__ = ["SmallDense"]


class SmallDense(Method):
    """A narrow dense network of the pruned one's parameter count, by FedAvg (a control: Liu et al., ICLR 2019)."""

    name: Literal["small_dense"] = "small_dense"
    density: Density = 0.01
    """Kept / prunable weights of the network whose parameter count this one must not exceed, in (0, 1]."""

    def network(self, model: AnyModel, build: Callable[[AnyModel], Network]) -> AnyModel:
        named = build(model)
        prunable = sum(layer.size for layer in named.layers if layer.prunable)
        others = named.parameters - prunable
        most = others + math.floor(self.density * prunable + 1e-9)

        def narrow(width: int) -> AnyModel:
            return model.model_copy(update={"width": width})

        least = build(narrow(1)).parameters
        if least > most:
            raise ValueError(
                f"density must leave room for a network of width 1, which has {least:,} parameters: it leaves {most:,} "
                f"of {named.parameters:,}; the least density is {math.ceil(1e4 * (least - others) / prunable) / 1e4:g}"
            )
        fits, exceeds = 1, model.width + 1
        while exceeds - fits > 1:
            width = (fits + exceeds) // 2
            fits, exceeds = (width, exceeds) if build(narrow(width)).parameters <= most else (fits, width)
        return narrow(fits)

    def rests(self, round: int) -> bool:
        return True

    def begin(self, network: Network, fleet: Federation, rng: np.random.Generator) -> ServerState:
        return ServerState(0, network.weights, None)
