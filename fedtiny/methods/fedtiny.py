"""FedTiny: adaptive batch-norm selection, then lightweight progressive pruning.

Huang, Zhang, Sun, Wang and Yuan, "Distributed Pruning Towards Tiny Neural Networks in Federated Learning",
ICDCS 2023.

Before round 0, C candidates are pruned from one pretrained network by magnitude, each with noisy layer densities. For
candidate c every client k measures batch-norm statistics (mu_k, var_k) on development data; the server sends back
their weighted mean; the client measures its loss L_k with them. The c of least sum_k w_k L_k starts the federation.
Every `adjust_every` rounds up to `stop_round`, one block takes its turn: client k sends the top
a_t = 0.15 (1 + cos(pi r / stop_round)) n_l gradients of the block's pruned weights from its last step; the server
averages them, grows the a_t largest, drops the a_t kept weights of smallest magnitude.

Not known from the paper, so decided here: C = ceil(0.1 / density); the first adjusting round is `adjust_every`; first
convolution and output layer are never pruned. Other than published: candidates are drawn around ERK densities, those of
its rivals, unless `around` is uniform. Better than published codes: batch-norm statistics are counted from
zero, and batches are arranged so that the step whose gradients are sent is a full one.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedtiny.methods.aggregation import Fold
from fedtiny.methods.base import Density, Method, ServerState, folded
from fedtiny.methods.progressive import (
    Direction,
    Scope,
    adjust,
    average_gradients,
    exchange_counts,
    keeping_gradients,
    turn,
)
from fedtiny.methods.remarks import schedule_remarks
from fedtiny.methods.selection import Aggregation, adapt, best, vanilla
from fedtiny.payload.fleet import Federation
from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.probes import Gradients, TopGradients
from fedtiny.payload.training import Training
from fedtiny.sparse.allocate import Around, Noisy
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights
from fedtiny.sparse.schedule import adjustment
from fedtiny.sparse.select import keep_top
from fedtiny.table import Table

__all__ = ["FedTiny"]


class FedTiny(Method):
    """Adaptive batch-norm selection, then progressive pruning (Huang et al., ICDCS 2023)."""

    name: Literal["fedtiny"] = "fedtiny"
    density: Density = 0.01
    """Kept / prunable weights, in (0, 1]; never exceeded."""
    candidates: Annotated[int, Field(ge=1)] | None = None
    """Candidate masks to choose from; none is the paper's ceil(0.1 / density); 1 is no choice."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Spread of candidates' layer densities: those of `around` times 1 - noise to 1 + noise; 0 is `around` itself."""
    around: Around = "erk"
    """Layer densities that candidates are drawn around: erk, er, or uniform (as published)."""
    adapt: bool = True
    """Measure candidates' batch-norm statistics anew before their losses; false is the paper's vanilla selection."""
    bn_aggregation: Aggregation = "mean"
    """How clients' batch-norm variances are aggregated: mean (as published), or pooled with the spread of means."""
    development: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of a client's training examples that candidates are measured on."""
    adjust_every: Annotated[int, Field(ge=1)] = 10
    """Rounds from one adjustment of the mask to the next."""
    stop_round: Annotated[int, Field(ge=1)] = 100
    """Round at which the number of exchanged weights reaches 0 and the mask is final."""
    fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    """Half the share of kept weights exchanged at round 0; 0 leaves the mask alone."""
    scope: Scope = "block"
    """What one adjustment is about: a layer, a block, or the network."""
    direction: Direction = "backward"
    """Where the turns begin: backward from the output, or forward from the input."""

    @property
    def target(self) -> float:
        return self.density

    @property
    def pool(self) -> int:
        """Candidates: as set, or ceil(0.1 / density)."""
        # 0.1 / 0.02 is 5.000000000000001 in floats for some densities; a millionth is no candidate.
        return self.candidates or math.ceil(0.1 / self.density - 1e-6)

    def begin(self, network: Network, fleet: Federation, rng: np.random.Generator) -> ServerState:
        pretrained = network.weights
        masks = self.masks(network, pretrained, rng)
        losses: list[float] = []
        winner: Weights = {}
        for mask in masks:
            if self.adapt:
                measured, loss = adapt(pretrained, mask, fleet, self.bn_aggregation, self.development)
            else:
                measured, loss = vanilla(pretrained, mask, fleet, self.development)
            losses.append(loss)
            if best(losses) == len(losses) - 1:
                winner = measured  # Only the best so far is held.
        memory = {
            "candidate_losses": torch.tensor(losses, dtype=torch.float64),
            "candidate_densities": torch.tensor(
                [[mask.density, *mask.densities().values()] for mask in masks], dtype=torch.float64
            ),
            "adjustments": torch.tensor(0),
        }
        return ServerState(0, winner, masks[best(losses)], memory)

    def masks(self, network: Network, pretrained: Weights, rng: np.random.Generator) -> list[Mask]:
        """The candidate pool: magnitude masks of the same weights under noisy layer densities."""
        scores = {name: pretrained[name].abs() for name in network.prunable}
        return [keep_top(scores, self._counts(network, rng)) for _ in range(self.pool)]

    def check(self, network: Network, rng: np.random.Generator) -> None:
        self._counts(network, rng)

    def _counts(self, network: Network, rng: np.random.Generator) -> dict[str, int]:
        return Noisy(noise=self.noise, around=self.around).counts(network.prunable, self.density, rng)

    def rests(self, round: int) -> bool:
        return not self._adjusts(round)

    def _adjusts(self, round: int) -> bool:
        return self.fraction > 0 and adjustment(round, self.adjust_every, self.stop_round) is not None

    def remarks(self, rounds: int) -> tuple[str, ...]:
        moves = schedule_remarks(rounds, self.adjust_every, self.stop_round) if self.fraction else ()
        return (*self._unused(), *moves)

    def _unused(self) -> tuple[str, ...]:
        if self.adapt or self.bn_aggregation == "mean":
            return ()
        return (f"method.bn_aggregation ({self.bn_aggregation}) does nothing where method.adapt is false",)

    def order(self, network: Network, state: ServerState, training: Training) -> Order:
        counts = self._exchange(network, state)
        probes = (TopGradients(count=counts),) if counts else ()
        return replace(super().order(network, state, training), probes=probes)

    def absorb(self, network: Network, state: ServerState, uploads: Iterable[Upload], fold: Fold) -> ServerState:
        counts = self._exchange(network, state)
        answers: dict[int, tuple[int, Gradients]] = {}
        weights = folded(keeping_gradients(uploads, answers), fold)
        averaged = replace(state, round=state.round + 1, weights=weights, memory=self._counted(state))
        if not counts:
            return averaged
        assert state.mask is not None
        ordered = [answers[client] for client in sorted(answers)]
        gradients = average_gradients(ordered, {name: network.prunable[name] for name in counts})
        mask, weights = adjust(state.mask, averaged.weights, gradients, counts)
        return replace(averaged, mask=mask, weights=weights)

    def _exchange(self, network: Network, state: ServerState) -> dict[str, int]:
        """Layer -> weights to exchange in this round; empty if it is no adjusting one."""
        number = adjustment(state.round, self.adjust_every, self.stop_round)
        if number is None:
            return {}
        assert state.mask is not None
        # Counted rather than reckoned: adjust_every may have been another one before. A sketch remembers nothing.
        made = int(state.memory["adjustments"]) if "adjustments" in state.memory else number
        layers = turn(network, made, self.scope, self.direction)
        counts = exchange_counts(state.mask, layers, state.round, self.stop_round, self.fraction)
        return {name: count for name, count in counts.items() if count > 0}

    def _counted(self, state: ServerState) -> Mapping[str, Tensor]:
        if not self._adjusts(state.round) or "adjustments" not in state.memory:
            return state.memory
        return {**state.memory, "adjustments": state.memory["adjustments"] + 1}

    def findings(self, network: Network, state: ServerState) -> tuple[Table, ...]:
        losses = state.memory["candidate_losses"].tolist()
        densities = state.memory["candidate_densities"].tolist()
        rows = tuple((c, loss, *densities[c]) for c, loss in enumerate(losses))
        columns = ("candidate", "loss", "density", *network.prunable)
        how = "were measured anew on the clients' data" if self.adapt else "stayed those of the unpruned network"
        text = (
            "Each candidate is the same network, pruned to the same overall density with other layer densities. Its "
            f"batch-norm statistics {how}; then every client told its loss. The candidate of least federated loss, "
            "marked, started the training."
        )
        return (Table("Candidates", columns, rows, best(losses), text),)
