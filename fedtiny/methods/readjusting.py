"""Methods whose clients move their own masks: when and how far, and how the masks become one again."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedtiny.methods.aggregation import Fold
from fedtiny.methods.average import OwnersMean
from fedtiny.methods.base import Density, Method, ServerState, folded
from fedtiny.methods.progressive import exchange_counts
from fedtiny.payload.adjustment import Adjustment
from fedtiny.payload.fleet import Federation
from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.training import Training
from fedtiny.sparse.allocate import Allocation, Erk
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights
from fedtiny.sparse.schedule import adjustment
from fedtiny.sparse.select import keep_top

__all__ = ["Readjusting", "owned", "reprune"]


class Readjusting(Method):
    """One mask by magnitude; in adjusting rounds each client moves its own, and the server makes one of theirs."""

    density: Density = 0.01
    """Kept / prunable weights, in (0, 1]; never exceeded between rounds."""
    allocation: Allocation = Erk()
    """Density of each layer: uniform, erk or noisy; it stays what it is."""
    adjust_every: Annotated[int, Field(ge=1)] = 10
    """Rounds from one adjustment of the masks to the next."""
    stop_round: Annotated[int, Field(ge=1)] = 100
    """Round at which the number of exchanged weights reaches 0 and the mask is final."""
    fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    """Half the share of kept weights exchanged at round 0; 0 leaves the mask alone."""
    fine_tune_epochs: Annotated[int, Field(ge=0)] | None = None
    """Local epochs after the mask was moved, below training.epochs; none is 1, or 0 where there is but one epoch."""

    @property
    def target(self) -> float:
        return self.density

    @property
    def folds(self) -> bool:
        return False

    def begin(self, network: Network, fleet: Federation, rng: np.random.Generator) -> ServerState:
        return self.sketch(network, rng)

    def sketch(self, network: Network, rng: np.random.Generator) -> ServerState:
        weights = dict(network.weights)
        counts = self.allocation.counts(network.prunable, self.density, rng)
        mask = keep_top({name: weights[name].abs() for name in network.prunable}, counts)
        mask.apply_(weights)
        return ServerState(0, weights, mask)

    def check(self, network: Network, rng: np.random.Generator) -> None:
        self.allocation.counts(network.prunable, self.density, rng)

    def remarks(self, rounds: int) -> tuple[str, ...]:
        if self.fraction == 0:
            return ()
        if self.density == 1:
            return ("the mask never moves: method.density is 1, so that nothing is pruned",)
        if self.adjust_every < min(rounds, self.stop_round):
            return ()
        return (
            f"the mask never moves: no round before method.stop_round ({self.stop_round}) and rounds ({rounds}) is "
            f"a multiple of method.adjust_every ({self.adjust_every})",
        )

    def check_training(self, training: Training) -> tuple[str, ...]:
        after = self._after(training)
        if after >= training.epochs:
            raise ValueError(
                f"fine_tune_epochs must be below training.epochs ({training.epochs}), so that a client trains before "
                f"it moves its mask, got {after}; lower it, or raise training.epochs"
            )
        if after == 0 and self.fraction > 0:
            return (
                f"what a client grows is not trained before the server votes on it, and only counts by how many grew "
                f"it: method.fine_tune_epochs is 0 with training.epochs {training.epochs}; two epochs or more allow 1",
            )
        return ()

    def order(self, network: Network, state: ServerState, training: Training) -> Order:
        order, counts = super().order(network, state, training), self._exchange(state)
        if not counts:
            return order
        return replace(order, adjust=Adjustment(after_epochs=training.epochs - self._after(training), count=counts))

    def absorb(self, network: Network, state: ServerState, uploads: Iterable[Upload], fold: Fold) -> ServerState:
        assert state.mask is not None
        counts = self._exchange(state)
        if not counts:
            weights = folded(uploads, fold)
            memory = self.remember(state, weights, state.mask.keep)
            return replace(state, round=state.round + 1, weights=weights, memory=memory)
        owners = owned(uploads)
        weights, votes = owners.result(otherwise=state.weights), owners.votes
        memory = self.remember(state, weights, {name: votes[name] > 0 for name in state.mask.keep})
        mask = reprune(state.mask, weights, votes, counts)
        mask.apply_(weights)
        return ServerState(state.round + 1, weights, mask, memory)

    def remember(self, state: ServerState, weights: Weights, kept: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What the server remembers of a round: nothing new.

        Args:
            state: The state before.
            weights: The aggregated weights, before they are pruned again.
            kept: Prunable parameter -> bool: weights that at least one client kept; the others are as they were.
        """
        return state.memory

    def _after(self, training: Training) -> int:
        return min(1, training.epochs - 1) if self.fine_tune_epochs is None else self.fine_tune_epochs

    def _exchange(self, state: ServerState) -> dict[str, int]:
        """Layer -> weights that each client exchanges in this round; empty if it is no adjusting one."""
        if adjustment(state.round, self.adjust_every, self.stop_round) is None:
            return {}
        assert state.mask is not None
        counts = exchange_counts(state.mask, tuple(state.mask.keep), state.round, self.stop_round, self.fraction)
        return {name: count for name, count in counts.items() if count > 0}


def owned(uploads: Iterable[Upload]) -> OwnersMean:
    """The mean over those that keep each weight; there must be at least one upload."""
    owners = None
    for upload in uploads:
        owners = owners or OwnersMean(upload.packing.layout)
        owners.add(upload)
    assert owners is not None
    return owners


def reprune(mask: Mask, weights: Weights, votes: Mapping[str, Tensor], layers: Iterable[str]) -> Mask:
    """The union of the clients' masks, pruned by magnitude to as many weights in each layer as before.

    Args:
        mask: The mask before: its counts, and the layers that are left alone.
        weights: The clients' mean.
        votes: Parameter -> examples of the clients that keep each weight; the union is where there are any. Of two
            weights of equal magnitude the one with more votes stays, then the one of lower index.
        layers: Layers that clients have moved.
    """
    keeps = dict(mask.keep)
    for name in layers:
        shape, count = keeps[name].shape, int(keeps[name].sum())
        union = votes[name].flatten().nonzero().flatten()
        ranked = union[votes[name].flatten()[union].argsort(descending=True, stable=True)]
        ranked = ranked[weights[name].flatten()[ranked].abs().argsort(descending=True, stable=True)]
        flat = torch.zeros(shape.numel(), dtype=torch.bool)
        flat[ranked[:count]] = True
        keeps[name] = flat.view(shape)
    return Mask(keeps)
