"""FedMef: memory-efficient federated dynamic pruning.

Huang, Zhuang, Chen and Lyu, "FedMef: Towards Memory-efficient Federated Dynamic Pruning", CVPR 2024.

1. Convolutions normalise their weights, so that there is no batch norm and no more is kept than their inputs.
2. All devices, in all rounds: a convolution's input keeps its 1 - gamma largest magnitudes for the backward pass.
3. Every `adjust_every` rounds up to `stop_round`, theta_low is the a_t = fraction (1 + cos(pi r / stop_round)) n_l
   smallest kept weights of each layer. Clients minimise L + lambda ||theta_low||^2 at learning rate max(eta, beta),
   beta = p(t) (2 sigmoid(||theta_low||) - 1) eta_0, p(t) = (2T - 2t) / (2T - t), and send their top a_t gradients.
4. The server averages, drops theta_low, and grows the a_t largest averaged gradients.

Decided here: the first mask is taken from the pretrained network by magnitude, as for all methods compared (published:
at random, without pretraining); what is dropped is theta_low itself, which was emptied, and not whatever is smallest
afterwards; eta_0 is the first round's learning rate; lambda. Public codes penalise zeros of pruned weights, or never
apply lambda or the normalisation, or prune activations in evaluation too.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from fedtiny.methods.aggregation import Fold
from fedtiny.methods.base import Density, Method, ServerState, folded
from fedtiny.methods.initial import Score, initial_state
from fedtiny.methods.progressive import adjust, average_gradients, exchange_counts, keeping_gradients
from fedtiny.methods.remarks import schedule_remarks
from fedtiny.models.zoo import AnyModel
from fedtiny.payload.extrusion import Extrusion
from fedtiny.payload.fleet import Federation
from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.probes import Gradients, TopGradients
from fedtiny.payload.training import Training
from fedtiny.sparse.allocate import Allocation, Erk
from fedtiny.sparse.network import Network
from fedtiny.sparse.schedule import adjustment

__all__ = ["FedMef"]


class FedMef(Method):
    """Budget-aware extrusion and scaled activation pruning (Huang et al., CVPR 2024)."""

    name: Literal["fedmef"] = "fedmef"
    density: Density = 0.01
    """Kept / prunable weights, in (0, 1]; never exceeded."""
    allocation: Allocation = Erk()
    """Density of each layer, which stays: uniform, erk or noisy."""
    score: Score = "magnitude"
    """Which weights of a layer the first mask keeps: the largest, or random ones (as published)."""
    adjust_every: Annotated[int, Field(ge=1)] = 10
    """Rounds from one adjustment of the mask to the next."""
    stop_round: Annotated[int, Field(ge=1)] = 100
    """Round at which the number of exchanged weights reaches 0 and the mask is final."""
    fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """Half the share of kept weights exchanged at round 0; 0 leaves the mask alone."""
    penalty: Annotated[float, Field(ge=0)] = 0.01
    """lambda: how hard weights that will be dropped are pushed towards 0; 0 leaves them alone."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.7
    """Share of a convolution's input that is not kept for the backward pass; 0 keeps all."""
    normalised: bool = True
    """Normalise the weights of convolutions instead of their outputs; false leaves the network as it is."""

    @property
    def target(self) -> float:
        return self.density

    def network(self, model: AnyModel, build: Callable[[AnyModel], Network]) -> AnyModel:
        return model.model_copy(update={"normalisation": "weight"}) if self.normalised else model

    def begin(self, network: Network, fleet: Federation, rng: np.random.Generator) -> ServerState:
        return self.sketch(network, rng)

    def sketch(self, network: Network, rng: np.random.Generator) -> ServerState:
        return initial_state(network, self.allocation, self.density, self.score, rng)

    def check(self, network: Network, rng: np.random.Generator) -> None:
        self.allocation.counts(network.prunable, self.density, rng)

    def rests(self, round: int) -> bool:
        """Whether `absorb` surely leaves the mask alone in this round."""
        return self.fraction == 0 or adjustment(round, self.adjust_every, self.stop_round) is None

    def remarks(self, rounds: int) -> tuple[str, ...]:
        return schedule_remarks(rounds, self.adjust_every, self.stop_round) if self.fraction else ()

    def order(self, network: Network, state: ServerState, training: Training) -> Order:
        counts = self._exchange(network, state)
        # A configuration may prune activations as well: the fewer are kept.
        density = min(training.activation_density, round(1 - self.gamma, 9))
        extrusion = Extrusion(counts=counts, penalty=self.penalty, lr=training.first_lr) if counts else None
        training = training.model_copy(update={"activation_density": density, "extrusion": extrusion})
        probes = (TopGradients(count=counts),) if counts else ()
        return replace(super().order(network, state, training), probes=probes)

    def absorb(self, network: Network, state: ServerState, uploads: Iterable[Upload], fold: Fold) -> ServerState:
        counts = self._exchange(network, state)
        answers: dict[int, tuple[int, Gradients]] = {}
        weights = folded(keeping_gradients(uploads, answers), fold)
        averaged = replace(state, round=state.round + 1, weights=weights)
        if not counts:
            return averaged
        assert state.mask is not None
        ordered = [answers[client] for client in sorted(answers)]
        gradients = average_gradients(ordered, {name: network.prunable[name] for name in counts})
        # theta_low are the smallest of the weights that the round started from: those are dropped.
        mask, _ = adjust(state.mask, state.weights, gradients, counts)
        mask.apply_(weights)
        return replace(averaged, mask=mask)

    def _exchange(self, network: Network, state: ServerState) -> dict[str, int]:
        """Layer -> weights to exchange in this round; empty if it is no adjusting one."""
        if self.rests(state.round):
            return {}
        assert state.mask is not None
        layers = tuple(network.prunable)
        counts = exchange_counts(state.mask, layers, state.round, self.stop_round, self.fraction)
        return {name: count for name, count in counts.items() if count > 0}
