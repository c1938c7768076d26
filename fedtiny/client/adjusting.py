"""A client that moves its own mask: what it looks at in the last step before, and what it makes of it."""

from collections.abc import Mapping

import torch
from lightning import pytorch as pl
from torch import Tensor

from fedtiny.client.probes.top_gradients import CollectTop
from fedtiny.payload.messages import Order
from fedtiny.sparse.buffer import TopBuffer
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights
from fedtiny.sparse.select import top_indices

__all__ = ["CollectGrowth", "exchanged"]


class CollectGrowth(CollectTop):
    """Holds what may grow of each adjusted layer, and nothing else: its largest gradients at pruned places.

    `count` places grow, so the `count` largest are all that can matter: the masks are those that the dense gradient
    would give, to the bit. With signs to go by, the largest among those whose step -gradient goes along are held too.
    """

    def __init__(self, order: Order) -> None:
        """Makes one buffer a layer, or two."""
        assert order.adjust is not None
        assert order.mask is not None
        super().__init__(order.adjust.count, order.mask)
        self._order, self._adjust, self._mask = order, order.adjust, order.mask
        self._signs: Mapping[str, Tensor] = {name: x.flatten() for name, x in (order.signs or {}).items()}
        self._along = {name: TopBuffer(self._adjust.first(self._adjust.count[name])) for name in self._signs}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """As for any top gradients; the signs are wanted beside them."""
        super().setup(trainer, pl_module, stage)
        self._signs = {name: signs.to(pl_module.device) for name, signs in self._signs.items()}

    def _take(self, name: str, gradient: Tensor, start: int) -> None:
        super()._take(name, gradient, start)
        if name in self._signs:
            piece = slice(start, start + len(gradient))
            against = self._signs[name][piece] * gradient.sign() >= 0  # 0 where there is no direction
            self._along[name].push(gradient, self._keep[name][piece] | against, start)

    def moved(self, weights: Weights) -> Mask:
        """The mask that the client goes on under, after training to `weights`; other layers stay as they are.

        Args:
            weights: On the CPU, where the mask is moved: it takes few steps, once a round.
        """
        keeps = dict(self._mask.keep)
        for name, count in self._adjust.count.items():
            indices, values = self.buffers[name].found
            if not weights[name].isfinite().all():
                continue  # it diverged: the server will say so
            possible = max(0, min(count, int((values.abs() > 0).sum()), int(keeps[name].sum()) - 1))
            first, along, opposed = 0, (indices[:0], values[:0]), torch.zeros_like(keeps[name])
            if name in self._signs:
                first = self._adjust.first(possible)
                along = self._along[name].found
                change = (weights[name] - self._order.weights[name]).sign()
                opposed = self._signs[name].cpu().view_as(change) * change < 0
            grown = _largest((indices, values), along, possible, first)
            keeps[name] = exchanged(keeps[name], weights[name], opposed, grown, first)
        return Mask(keeps)


def _largest(all_: tuple[Tensor, Tensor], some: tuple[Tensor, Tensor], count: int, first: int) -> Tensor:
    """The places of the `first` largest gradients of `some`, filled up to `count` with the largest of all others."""
    nonzero = int((some[1].abs() > 0).sum())
    chosen = some[0][top_indices(some[1].abs(), min(first, nonzero))]
    others = ~torch.isin(all_[0], chosen)
    rest = all_[0][others][top_indices(all_[1][others].abs(), count - len(chosen))]
    return torch.cat([chosen, rest])


def exchanged(keep: Tensor, weight: Tensor, opposed: Tensor, grown: Tensor, first: int) -> Tensor:
    """Drops as many weights of one layer as grow, the smallest ones, and grows these.

    Args:
        keep: Bool tensor of any shape; True is kept.
        weight: Float, same shape.
        opposed: Bool, same shape: the `first` weights to drop are the smallest kept ones of these; the rest are the
            smallest of all that are left. Of equals the one of the higher index goes.
        grown: (count,) int64, flat places that are pruned, each once.
        first: How many of the dropped weights, at most.

    Returns:
        The new mask, with as many kept as before.
    """
    magnitude, kept = weight.flatten().abs(), keep.flatten()
    against = kept & opposed.flatten()
    gone = min(first, int(against.sum()), len(grown))
    left = kept & ~(against & ~_without_smallest(magnitude, against, gone))
    new = _without_smallest(magnitude, left, len(grown) - gone)
    new[grown] = True
    return new.view(keep.shape)


def _without_smallest(magnitude: Tensor, among: Tensor, count: int) -> Tensor:
    left = torch.zeros_like(among)
    left[top_indices(magnitude.masked_fill(~among, -1.0), int(among.sum()) - count)] = True
    return left
