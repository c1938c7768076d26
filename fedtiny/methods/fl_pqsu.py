"""FL-PQSU: pruning once at the server, quantised uploads, and clients that keep back what is no progress.

Xu, Fang, Ding, Zou and Xiong, "Accelerating Federated Learning for IoT in Big Data Analytics With Pruning,
Quantization and Selective Updating", IEEE Access 9, 2021.

Before round 0 the server keeps, in every layer, the filters of largest L1 norm (`structured`). Every round client k
trains under this mask and, if its last epoch's mean loss l_k is below the least it had when it uploaded before, sends
its weights, each layer's on a grid of 2**bits values: w = least + step * q. The server aggregates what came.

As deviations from the paper: filters are masked, not cut out, and all layers keep the same share of them instead of
shares set by hand; the density counts what is left once weights of channels that nobody produces are gone too, so a
share of s comes to a density of about s**2. A residual sum keeps a channel while one of its branches produces
it. Only weights of layers are quantised, on their way up: batch-norm statistics on one grid lose their small
variances, and the published code rounds even counters. l_k is the mean of an epoch and not of its last batch,
which is mostly noise. Clients keep no state: the server remembers the least loss, and sends it, 4 bytes. The mean
is weighted by examples, as for all methods. With `structured: false`, it is one-shot magnitude pruning in equal shares
of every layer: what stands for FL-PQSU in FedTiny's comparison.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedtiny.methods.aggregation import Fold
from fedtiny.methods.base import Density, Method, ServerState, folded
from fedtiny.payload.fleet import Federation
from fedtiny.payload.messages import Order, Personal, Upload
from fedtiny.payload.training import Training
from fedtiny.payload.values import Exact, Quantised
from fedtiny.sparse.allocate import Uniform
from fedtiny.sparse.filters import filter_weights, whole_filters
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights
from fedtiny.sparse.select import keep_top

__all__ = ["FlPqsu"]


class FlPqsu(Method):
    """Pruning once, quantised uploads, selective updating (Xu et al., IEEE Access 2021)."""

    name: Literal["fl_pqsu"] = "fl_pqsu"
    density: Density = 0.01
    """Kept / prunable weights, in (0, 1]; never exceeded."""
    structured: bool = True
    """Whether whole filters are pruned, by their L1 norm; otherwise single weights, by their magnitude."""
    bits: Annotated[int, Field(ge=2, le=16)] | None = 8
    """Bits of a weight in an upload; none is float32 as it is."""
    selective: bool = True
    """Whether a client keeps its weights back unless its training loss is below all those it uploaded with before."""

    @property
    def target(self) -> float:
        return self.density

    def grain(self, network: Network) -> int:
        return filter_weights(network) if self.structured else super().grain(network)

    def begin(self, network: Network, fleet: Federation, rng: np.random.Generator) -> ServerState:
        return self._first(network, fleet.size, rng)

    def sketch(self, network: Network, rng: np.random.Generator) -> ServerState:
        return self._first(network, 0, rng)

    def check(self, network: Network, rng: np.random.Generator) -> None:
        self.mask(network, network.weights, rng)

    def mask(self, network: Network, weights: Weights, rng: np.random.Generator) -> Mask:
        """What the server keeps of these weights."""
        if self.structured:
            return whole_filters(network, weights, self.density)
        counts = Uniform().counts(network.prunable, self.density, rng)
        return keep_top({name: weights[name].abs() for name in network.prunable}, counts)

    def _first(self, network: Network, clients: int, rng: np.random.Generator) -> ServerState:
        weights = dict(network.weights)
        mask = self.mask(network, weights, rng)
        mask.apply_(weights)
        memory = {"least_losses": torch.full((clients,), torch.inf)} if self.selective else {}
        return ServerState(0, weights, mask, memory)

    @property
    def keeps_back(self) -> bool:
        return self.selective

    def rests(self, round: int) -> bool:
        return not self.selective

    def remarks(self, rounds: int) -> tuple[str, ...]:
        if not self.selective:
            return ()
        return ("clients whose training loss does not fall keep their weights back, so later rounds may upload little",)

    def order(self, network: Network, state: ServerState, training: Training) -> Order:
        order = super().order(network, state, training)
        losses = state.memory["least_losses"].tolist() if self.selective else []
        limits = {client: loss for client, loss in enumerate(losses) if loss < torch.inf}
        return replace(
            order,
            codec=Exact() if self.bits is None else Quantised(bits=self.bits),
            personal={client: Personal(state.weights, state.mask, loss) for client, loss in limits.items()},
        )

    def absorb(self, network: Network, state: ServerState, uploads: Iterable[Upload], fold: Fold) -> ServerState:
        if not self.selective:
            return super().absorb(network, state, uploads, fold)
        losses = state.memory["least_losses"].clone()
        weights = folded(_remembering(uploads, losses), fold, state.weights)
        return replace(state, round=state.round + 1, weights=weights, memory={"least_losses": losses})


def _remembering(uploads: Iterable[Upload], losses: Tensor) -> Iterator[Upload]:
    """Writes down the loss of each client that sends its weights: it is the least it had so far."""
    for upload in uploads:
        if upload.values is not None:
            losses[upload.client] = upload.loss
        yield upload
