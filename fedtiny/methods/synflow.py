"""SynFlow: before training and without data, keep the weights that most of the synaptic flow passes.

Tanaka, Kunin, Yamins and Ganguli, "Pruning neural networks without any data by iteratively conserving synaptic flow",
NeurIPS 2020.

Replace all weights by their absolute values; let R be the sum of the outputs for an input of ones. The score of
weight j is w_j dR/dw_j: the share of R that passes j. What flows into a unit flows out of it, so the scores of every
layer that all paths pass sum to R. Prune in `steps` steps (100), after step e to density d^(e / steps), the highest
scores in one ranking over all layers, and score anew in between. A large layer then loses weights first, and the
scores of those left grow, so no layer is emptied before all must be.

Decided here: R is of the network's linear part. Activations of positive numbers are the numbers themselves; batch norm
has fresh statistics (mean 0, variance 1) and scales by |gamma|, and no shift or bias is added. The published code takes
absolute values of these too: the same for a fresh network with batch norm, but after pretraining a mean is subtracted
and a bias is flow that comes from no weight, so layers no longer sum to R. Double precision: products of many layers
overflow single. The server does it alone.
"""

import copy
from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from fedtiny.methods.base import ServerState
from fedtiny.methods.one_shot import OneShot
from fedtiny.payload.fleet import Federation
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network
from fedtiny.sparse.select import keep_top_overall

__all__ = ["SynFlow", "flow", "positive"]


class SynFlow(OneShot):
    """One mask before training, by iteratively conserved synaptic flow (Tanaka et al., NeurIPS 2020)."""

    name: Literal["synflow"] = "synflow"
    steps: Annotated[int, Field(ge=1)] = 100
    """Steps from dense to the density, exponentially; 1 forfeits what the method is for."""

    def begin(self, network: Network, fleet: Federation, rng: np.random.Generator) -> ServerState:
        return self.under(network, self.mask(network))

    def mask(self, network: Network) -> Mask:
        """The mask of the network's present weights."""
        net, names = positive(network.module), tuple(network.prunable)
        weights = {name: net.get_parameter(name).detach() for name in names}
        size, last = sum(x.numel() for x in weights.values()), sum(self.counts(network).values())
        mask = Mask({name: torch.ones_like(x, dtype=torch.bool) for name, x in weights.items()})
        for step in range(1, self.steps + 1):
            count = last if step == self.steps else max(last, int(self.density ** (step / self.steps) * size))
            scores, _ = flow(net, names, network.input_shape)
            # What is pruned scores 0, and so may what is kept: it must not come back for it.
            mask = keep_top_overall({x: score.masked_fill(~mask.keep[x], -1.0) for x, score in scores.items()}, count)
            mask.apply_(weights)
        return mask


def positive(module: nn.Module) -> nn.Module:
    """A copy whose outputs are the sum over all paths of the products of |weights| along them, float64."""
    net = copy.deepcopy(module).double().eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
        elif isinstance(layer, (nn.ReLU, nn.ReLU6)):  # the latter would cut the flow off at 6
            layer.register_forward_hook(lambda layer, inputs, output: inputs[0])
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(torch.zeros(()) if name.endswith("bias") else parameter.abs())
    return net


def flow(net: nn.Module, names: Iterable[str], input_shape: tuple[int, ...]) -> tuple[dict[str, Tensor], float]:
    """The flow through each weight, and R, the flow through all.

    Args:
        net: A `positive` network.
        names: Parameters to score.
        input_shape: (C, H, W) of one example.

    Returns:
        Parameter -> float64 of its shape, at least 0; and the sum of the outputs.
    """
    weights = {name: net.get_parameter(name) for name in names}
    with torch.enable_grad():
        total = net(torch.ones(1, *input_shape, dtype=torch.float64)).sum()
        parts = torch.autograd.grad(total, list(weights.values()))
    pairs = zip(weights.items(), parts, strict=True)
    return {name: weight.detach() * part for (name, weight), part in pairs}, float(total.detach())
