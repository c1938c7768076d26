"""What a client does that moves its own mask: when, how many weights of each layer, and what it goes by."""

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from fedtiny.payload.bits import mask_bytes
from fedtiny.payload.probes import Demand, Sizes
from fedtiny.payload.training import Training
from fedtiny.value import Value

__all__ = ["Adjustment"]


class Adjustment(Value):
    """Part of an order: train, move the mask, train on under the new one; the mask travels back with the weights.

    Of each layer the kept weights of smallest magnitude are dropped, and as many pruned ones grow: those with the
    largest |dL/dw| in the last step before. Both are chosen from the mask as it was, so none is in both sets. A grown
    weight starts at 0; one whose gradient is 0 does not grow; one kept weight at least stays.
    """

    after_epochs: Annotated[int, Field(ge=1)]
    """Local epochs before the mask moves; those that are left follow under the new mask, with a new optimizer."""
    count: dict[str, Annotated[int, Field(ge=1)]]
    """Parameter name -> weights to drop, and as many to grow."""
    guided: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of them that the order's signs choose first: see `Order.signs`."""

    def first(self, count: int) -> int:
        """How many of `count` exchanged weights the signs choose first: rounded up, so that a small layer has one."""
        return min(count, math.ceil(self.guided * count - 1e-9))

    def split(self, training: Training) -> tuple[Training, Training | None]:
        """The training before the mask moves, and the one after that, if epochs are left for it."""
        left = training.epochs - self.after_epochs
        before = training.model_copy(update={"epochs": self.after_epochs})
        return before, training.model_copy(update={"epochs": left}) if left > 0 else None

    def demand(self, sizes: Sizes, kept: Mapping[str, int]) -> Demand:
        """What it asks of a device: the layers' dense gradient in one step, and 8 bytes for each entry held of it.

        With signs to go by, these (2 bits a weight) and the kept weights that training began with are held too.

        Args:
            sizes: Name -> number of weights of each layer.
            kept: Name -> how many of them are kept.
        """
        held = sum(8 * (count + self.first(count)) for count in self.count.values())
        if self.guided:
            held += sum((sizes[name] + 3) // 4 + 4 * kept[name] for name in self.count)
        return Demand(tuple(self.count), held_bytes=held)

    def mask_bytes(self, sizes: Sizes) -> int:
        """The most that the moved masks take on the wire; that is what they take if all exchanges can be made."""
        return sum(mask_bytes(sizes[name], 2 * count) for name, count in self.count.items())
