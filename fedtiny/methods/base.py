"""What a federated pruning method is: three verbs over explicit state."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from fedtiny.methods.aggregation import AnyAggregation, Fold
from fedtiny.models.zoo import AnyModel
from fedtiny.payload.fleet import Federation
from fedtiny.payload.messages import Order, Personal, Upload
from fedtiny.payload.training import Training
from fedtiny.sparse.allocate import Uniform
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights
from fedtiny.sparse.select import keep_top
from fedtiny.table import Table
from fedtiny.value import Value

__all__ = ["SCHEDULE", "Density", "Method", "ServerState", "folded"]

Density = Annotated[float, Field(gt=0, le=1)]

SCHEDULE = ("adjust_every", "stop_round")
"""Settings by which any method says in which rounds its mask may move: see `Method.scheduled`."""


@dataclass(frozen=True, slots=True, eq=False)
class ServerState:
    """Everything a run needs to go on after a crash.

    Attributes:
        round: Rounds completed.
        weights: Global parameters and buffers, CPU float32, masked.
        mask: Global mask; None while dense.
        memory: The method's own tensors by name.
    """

    round: int
    weights: Weights
    mask: Mask | None
    memory: Mapping[str, Tensor] = field(default_factory=dict)


class Method(Value, ABC):
    """A federated pruning method: hyper-parameters as fields, behaviour as verbs, no state of its own."""

    @classmethod
    def scheduled(cls, told: Mapping[str, object], settings: Mapping[str, object]) -> dict[str, object]:
        """The schedule among the settings `told` of another method, as far as this one takes it.

        Methods that are compared share it, so that all have one budget.

        Args:
            told: Settings of another method.
            settings: What is asked of this one: its form may decide whether it has a schedule.
        """
        return {key: told[key] for key in SCHEDULE if key in told and key in cls.model_fields}

    @classmethod
    def changes(cls) -> tuple[str, ...]:
        """Settings that may change between two rounds: when, until when and how much of the mask moves."""
        return tuple(key for key in (*SCHEDULE, "fraction") if key in cls.model_fields)

    @property
    def target(self) -> float:
        """The density over prunable weights that the method ends at; unless `ceiling` says so it never exceeds it."""
        return 1.0

    def ceiling(self, round: int) -> float:
        """The density over prunable weights that is never exceeded once so many rounds are complete."""
        return self.target

    @property
    def folds(self) -> bool:
        """Whether clients' weights become one by the run's `aggregation`; otherwise the method has a way of its own."""
        return True

    @property
    def public(self) -> int:
        """Public examples that the server must hold, at least, since it is asked itself."""
        return 0

    @property
    def keeps_back(self) -> bool:
        """Whether clients may keep their weights back: what is foreseen of a run is then the most it can cost.

        Where there may be too few for it, a robust aggregation is refused.
        """
        return False

    def network(self, model: AnyModel, build: Callable[[AnyModel], Network]) -> AnyModel:
        """The network to train, where it is not the one that the configuration names.

        Args:
            model: What the configuration names.
            build: Builds a model, for this run's pictures and classes.

        Raises:
            ValueError: There is none that fits; says why.
        """
        return model

    @abstractmethod
    def begin(self, network: Network, fleet: Federation, rng: np.random.Generator) -> ServerState:
        """Before round 0: chooses the first mask, asking clients if the method has to.

        Args:
            network: The pretrained network.
            fleet: All clients.
            rng: The method's own random stream.

        Raises:
            ValueError: The network cannot be pruned this far; names the numbers.
        """

    def order(self, network: Network, state: ServerState, training: Training) -> Order:
        """What clients do in round `state.round`; by default, train under the current mask."""
        return Order(state.round, state.weights, state.mask, training)

    def absorb(self, network: Network, state: ServerState, uploads: Iterable[Upload], fold: Fold) -> ServerState:
        """Aggregates the uploads, adjusts the mask if this is such a round, counts the round.

        By default FedAvg's form: the fold of all weights, under the unchanged mask.

        Args:
            network: The network.
            state: The state before the round; it is not changed.
            uploads: In any order: the result must not depend on it, to the bit.
            fold: How weights are aggregated; empty.
        """
        return replace(state, round=state.round + 1, weights=folded(uploads, fold, state.weights))

    def rests(self, round: int) -> bool:
        """Whether `absorb` surely leaves the mask alone in this round, and asks nothing new of clients after it.

        Of rounds at rest whose orders ask the same, one tells what all of them cost: `fedtiny cost` plays only that.
        """
        return False

    def held_bytes(self, whole: int, packed: int, clients: int, aggregation: AnyAggregation) -> int:
        """Bytes that the server holds beside its state while it aggregates a round: modelled.

        By default the run's aggregation of packed weights, or, where a method has a way of its own, a mean over
        owners.

        Args:
            whole: Numbers in the network.
            packed: Numbers in an upload's weights.
            clients: Clients of the round.
            aggregation: The run's.
        """
        return aggregation.held_bytes(packed, clients) if self.folds else 40 * whole + 4 * packed

    def sketch(self, network: Network, rng: np.random.Generator) -> ServerState:
        """A state like that after `begin`, made without asking anybody, to foresee costs with; weights mean nothing.

        Raises:
            ValueError: As in `begin`.
        """
        weights = dict(network.weights)
        if self.target == 1:
            return ServerState(0, weights, None)
        counts = Uniform().counts(network.prunable, self.target, rng)
        mask = keep_top({name: weights[name].abs() for name in network.prunable}, counts)
        mask.apply_(weights)
        return ServerState(0, weights, mask)

    def check(self, network: Network, rng: np.random.Generator) -> None:
        """Raises the `ValueError` that `begin` would, without asking any client."""

    def check_training(self, training: Training) -> tuple[str, ...]:
        """What a user should know of local training like this with this method, a line each.

        Raises:
            ValueError: Clients cannot train so; says why.
        """
        return ()

    def remarks(self, rounds: int) -> tuple[str, ...]:
        """What a user should know of a run of so many rounds before it starts, a line each."""
        return ()

    def grain(self, network: Network) -> int:
        """Weights by which what is kept may fall short of the target: one a layer, unless it prunes larger pieces."""
        return len(network.prunable)

    def models(self, network: Network, state: ServerState) -> Mapping[int, Personal]:
        """The model of each client, where clients have models of their own; empty where all share the server's.

        They are what is evaluated then, and what densities are told of; the server's own weights are but their sum.
        """
        return {}

    def findings(self, network: Network, state: ServerState) -> tuple[Table, ...]:
        """What the method found on its way, for whoever wants to show it."""
        return ()


def folded(uploads: Iterable[Upload], fold: Fold, before: Weights | None = None) -> Weights:
    """The aggregate of the uploads' weights, by name; whoever kept its weights back does not count.

    Args:
        uploads: In any order.
        fold: How weights are aggregated; empty.
        before: What stays if all kept theirs back; without it, at least one must not.
    """
    packing = None
    for upload in uploads:
        if upload.values is None:
            continue
        fold.add(upload)
        packing = upload.packing
    if packing is None:
        assert before is not None
        return before
    return packing.unpack(fold.result())
