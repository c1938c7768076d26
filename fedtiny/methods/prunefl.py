"""PruneFL: the mask follows squared gradients that clients accumulate.

Jiang, Wang, Valls, Ko, Lee, Leung and Tassiulas, "Model Pruning Enables Efficient Federated Learning on Edge
Devices", IEEE Transactions on Neural Networks and Learning Systems, 2022 (arXiv 1909.12326).

In an adjusting round client k sends s_kj = (sum_i g_kij)^2 of every prunable weight j, kept or not, with g_ki the dense
gradient of its step i; the server averages them, s_j = sum_k n_k s_kj / sum_k n_k, and makes a new mask.
`adaptive`, as published: kept weights stay but for a share of the smallest in each layer, 0.3 * 0.5^(r / 10000); those
and all pruned ones join in order of s_j / t_j, t_j the seconds that j takes of a round, while s_j / t_j exceeds
Gamma = sum s_j / (c + sum t_j) over what is kept. So the size of the model is an outcome, here at most `density`.
`fixed`, the default: each layer keeps its number of weights; a_t of the smallest give way to the pruned ones of largest
s_j, with FedTiny's a_t = 0.15 (1 + cos(pi r / stop_round)) n_l. New weights start at 0 in both.

`fixed` is the default, with ERK masks, since a comparison at equal density needs one that is used to the last weight,
and layer densities that hold at 1 % and below; later papers compare with PruneFL in this form (FedRTS).
Deviations, all in its favour: clients add up gradients in adjusting rounds alone, since they keep nothing between
rounds (published: in every round, so a dense gradient in every step there is); its first stage, pruning while training
on one client, is pretraining on the server's public data and a magnitude mask, as for all methods here; Gamma counts
prunable weights alone. The true dL/dw at the masked weights is taken: some public codes differentiate by the mask
instead, which is 0 where the weight is.
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
from fedtiny.methods.initial import initial_state
from fedtiny.methods.reconfigure import AnyMode, Fixed, Moment
from fedtiny.methods.remarks import schedule_remarks
from fedtiny.payload.fleet import Federation
from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.probes import SquaredGradients, Squares
from fedtiny.payload.training import Training
from fedtiny.sparse.allocate import Allocation, Erk
from fedtiny.sparse.network import Network
from fedtiny.sparse.schedule import adjustment

__all__ = ["PruneFL", "mean_squares"]


class PruneFL(Method):
    """Pruning by accumulated squared gradients (Jiang et al., TNNLS 2022)."""

    name: Literal["prunefl"] = "prunefl"
    density: Density = 0.01
    """Kept / prunable weights, in (0, 1]; never exceeded."""
    allocation: Allocation = Erk()
    """Density of each layer before round 0: uniform, erk or noisy."""
    adjust_every: Annotated[int, Field(ge=1)] = 10
    """Rounds from one adjustment of the mask to the next."""
    stop_round: Annotated[int, Field(ge=1)] = 100
    """Round from which the mask is final."""
    mode: AnyMode = Fixed()
    """Whether the layers' sizes are fixed or adaptive."""

    @property
    def target(self) -> float:
        return self.density

    def begin(self, network: Network, fleet: Federation, rng: np.random.Generator) -> ServerState:
        return self.sketch(network, rng)

    def sketch(self, network: Network, rng: np.random.Generator) -> ServerState:
        return initial_state(network, self.allocation, self.density, "magnitude", rng)

    def check(self, network: Network, rng: np.random.Generator) -> None:
        self.allocation.counts(network.prunable, self.density, rng)

    def rests(self, round: int) -> bool:
        return adjustment(round, self.adjust_every, self.stop_round) is None

    def remarks(self, rounds: int) -> tuple[str, ...]:
        return () if self.mode.idle else schedule_remarks(rounds, self.adjust_every, self.stop_round)

    def order(self, network: Network, state: ServerState, training: Training) -> Order:
        probes = (SquaredGradients(layers=tuple(network.prunable)),) if self._adjusts(state) else ()
        return replace(super().order(network, state, training), probes=probes)

    def absorb(self, network: Network, state: ServerState, uploads: Iterable[Upload], fold: Fold) -> ServerState:
        answers: dict[int, tuple[int, Squares]] = {}
        weights = folded(_keeping_squares(uploads, answers), fold)
        averaged = replace(state, round=state.round + 1, weights=weights)
        if not self._adjusts(state):
            return averaged
        assert state.mask is not None
        squares = mean_squares([answers[client] for client in sorted(answers)])
        budget = int(self.density * state.mask.size + 1e-9)
        now = Moment(state.mask, weights, squares, state.round, self.stop_round, budget)
        mask = self.mode.remask(network, now)
        moved = {name: tensor.clone() if name in mask.keep else tensor for name, tensor in weights.items()}
        mask.apply_(moved)
        return replace(averaged, mask=mask, weights=moved)

    def _adjusts(self, state: ServerState) -> bool:
        if adjustment(state.round, self.adjust_every, self.stop_round) is None:
            return False
        assert state.mask is not None
        return self.mode.moves(state.mask, state.round, self.stop_round)


def mean_squares(answers: Iterable[tuple[int, Squares]]) -> dict[str, Tensor]:
    """sum_k n_k s_k / sum_k n_k by parameter, (N,) float64.

    Args:
        answers: (n_k, squares) of each client, in the order of their ids: the sum depends on it. Squares span too many
            powers of ten for the exact sums that weights are added by.
    """
    sums: dict[str, Tensor] = {}
    total = 0
    for examples, answer in answers:
        total += examples
        for name, squares in answer.layers.items():
            sums.setdefault(name, torch.zeros(len(squares), dtype=torch.float64)).add_(squares, alpha=examples)
    return {name: tensor / total for name, tensor in sums.items()}


def _keeping_squares(uploads: Iterable[Upload], answers: dict[int, tuple[int, Squares]]) -> Iterator[Upload]:
    for upload in uploads:
        for answer in upload.answers:
            if isinstance(answer, Squares):
                answers[upload.client] = (upload.examples, answer)
        yield upload
