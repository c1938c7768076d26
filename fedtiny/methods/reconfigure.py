"""How PruneFL's server makes a new mask of its clients' squared gradients: two modes.

`Fixed` keeps the number of weights in each layer. `Adaptive` finds it: a weight is worth what it takes off the loss
for the time that it costs in every round, and the model may grow and shrink.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedtiny.methods.progressive import exchange_counts
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights
from fedtiny.sparse.select import drop_then_grow, top_indices
from fedtiny.value import Value

__all__ = ["Adaptive", "AnyMode", "Fixed", "Moment", "RoundTime", "greedy", "protected"]


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What an adjustment starts from.

    Attributes:
        mask: The mask so far.
        weights: The aggregated weights under it.
        squares: Prunable parameter -> (N,) float64, mean squared gradients.
        round: The round.
        stop: The round from which the mask is final.
        budget: Weights that may be kept in all.
    """

    mask: Mask
    weights: Weights
    squares: Mapping[str, Tensor]
    round: int
    stop: int
    budget: int


class Fixed(Value):
    """Each layer keeps its number of weights: the smallest give way to those of largest mean squared gradient."""

    name: Literal["fixed"] = "fixed"
    fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    """Half the share of kept weights exchanged at round 0; 0 leaves the mask alone."""

    @property
    def idle(self) -> bool:
        """Whether the mask is meant to stay as it is."""
        return self.fraction == 0

    def moves(self, mask: Mask, round: int, stop: int) -> bool:
        """Whether an adjustment in this round could change the mask."""
        return any(count > 0 for count in self._counts(mask, round, stop).values())

    def remask(self, network: Network, now: Moment) -> Mask:
        """The new mask, with as many kept in each layer. What is dropped cannot grow back at once."""
        counts = self._counts(now.mask, now.round, now.stop)
        keep = {
            name: drop_then_grow(keep, now.weights[name], now.squares[name], counts[name])
            for name, keep in now.mask.keep.items()
        }
        return Mask(keep)

    def _counts(self, mask: Mask, round: int, stop: int) -> dict[str, int]:
        return exchange_counts(mask, list(mask.keep), round, stop, self.fraction)


class RoundTime(Value):
    """Seconds of a round on a client: some whatever is kept, and some for each kept weight.

    The defaults are those that its authors measured on Raspberry Pis for VGG-11 and five batches of 20 images a round;
    `used_s` is fitted to their figures of single layers.
    """

    fixed_s: Annotated[float, Field(gt=0)] = 86.85
    """c: seconds of a round that no pruning saves."""
    sent_s: Annotated[float, Field(ge=0)] = 5.56e-6
    """Seconds that a kept weight takes to cross the network, down and up."""
    used_s: Annotated[float, Field(gt=0)] = 1.75e-7
    """Seconds of a round for each time that one example's forward pass uses a weight: a convolution's once a pixel."""

    def per_weight_s(self, network: Network) -> dict[str, float]:
        """Prunable layer -> t, the seconds of a round for each of its kept weights."""
        return {x.name: self.sent_s + self.used_s * x.macs / x.size for x in network.layers if x.prunable}


class Adaptive(Value):
    """As published: the model keeps what takes more off the loss in a second of a round than the rest does."""

    name: Literal["adaptive"] = "adaptive"
    removable: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of a layer's kept weights, the smallest, that an adjustment in round 0 may remove."""
    half_life: Annotated[float, Field(gt=0)] = 10_000.0
    """Rounds in which that share halves."""
    time: RoundTime = RoundTime()
    """Seconds of a round."""

    @property
    def idle(self) -> bool:
        """Whether the mask is meant to stay as it is."""
        return False

    def moves(self, mask: Mask, round: int, stop: int) -> bool:
        """Whether an adjustment in this round could change the mask."""
        return round < stop

    def remask(self, network: Network, now: Moment) -> Mask:
        """The new mask, of any size up to the budget. Every layer keeps its largest weights."""
        share = self.removable * 0.5 ** (now.round / self.half_life)
        core = {name: protected(keep, now.weights[name], share).flatten() for name, keep in now.mask.keep.items()}
        seconds = self.time.per_weight_s(network)
        candidates = {name: now.squares[name][~kept] for name, kept in core.items()}
        counts = {name: int(kept.sum()) for name, kept in core.items()}
        chosen = greedy(
            core_squares=sum(float(now.squares[name][kept].sum()) for name, kept in core.items()),
            core_s=self.time.fixed_s + sum(count * seconds[name] for name, count in counts.items()),
            squares=torch.cat(list(candidates.values())),
            seconds=torch.cat([torch.full_like(x, seconds[name]) for name, x in candidates.items()]),
            room=now.budget - sum(counts.values()),
        )
        added = chosen.split([len(x) for x in candidates.values()])
        for kept, new in zip(core.values(), added, strict=True):
            kept[~kept] = new
        return Mask({name: kept.view(now.mask.keep[name].shape) for name, kept in core.items()})


AnyMode = Annotated[Fixed | Adaptive, Field(discriminator="name")]


def protected(keep: Tensor, weight: Tensor, share: float) -> Tensor:
    """A layer's core: its kept weights but for `share` of them, the smallest, rounded down; one at least.

    Args:
        keep: Bool tensor of any shape, with one True at least.
        weight: Float, same shape.
        share: Share of the kept weights that may go, in [0, 1].

    Returns:
        Bool tensor of that shape; True is in the core.
    """
    kept = int(keep.sum())
    core = torch.zeros(keep.numel(), dtype=torch.bool)
    size = weight.flatten().abs().masked_fill(~keep.flatten(), -1.0)
    core[top_indices(size, kept - min(int(share * kept), kept - 1))] = True
    return core.view(keep.shape)


def greedy(core_squares: float, core_s: float, squares: Tensor, seconds: Tensor, room: int) -> Tensor:
    """Which candidates join the core so that Gamma = sum g^2 / (c + sum t), over what is kept, is largest.

    In descending order of g^2 / t, each joins whose ratio exceeds Gamma so far, which raises it; from the first that
    does not, none would. Of equals the one of lower index comes first; one without a gradient never joins.

    Args:
        core_squares: Sum of g^2 over the core.
        core_s: c and the sum of t over the core, above 0.
        squares: (K,) float64: g^2 of each candidate.
        seconds: (K,) float64: t of each candidate, above 0.
        room: Candidates that may join.

    Returns:
        (K,) bool.
    """
    ratios, order = (squares / seconds).sort(descending=True, stable=True)
    gained = torch.cat([squares.new_tensor([core_squares]), squares[order]]).cumsum(0)[:-1]
    spent_s = torch.cat([seconds.new_tensor([core_s]), seconds[order]]).cumsum(0)[:-1]
    exceeds = ratios * spent_s > gained  # g^2 / t > Gamma of all that joined before
    joining = min(room, int(exceeds.long().cumprod(0).sum()))
    chosen = torch.zeros(len(squares), dtype=torch.bool)
    chosen[order[:joining]] = True
    return chosen
