"""What an order costs a client, modelled: FLOPs by accounting, memory."""

from dataclasses import dataclass
from typing import Self

from fedtiny.payload.messages import Order
from fedtiny.payload.probe import TopGradients
from fedtiny.sparse.cost import Accounting, activation_bytes, forward_flops, memory_bytes, training_flops
from fedtiny.sparse.network import Network

__all__ = ["ACCOUNTINGS", "Effort"]

ACCOUNTINGS: tuple[Accounting, ...] = ("rigl", "fedrts")


@dataclass(frozen=True, slots=True)
class Effort:
    """The costs of one order; those of a client follow from its examples.

    Attributes:
        epochs: Passes over the local examples; a share of one where nothing is trained.
        batch: Examples a step.
        forward: FLOPs of one example's forward pass.
        dense_forward: The same without pruning.
        passes: Forward passes that an example takes: three if it is trained on.
        extra: FLOPs of one example more, by accounting, in the step whose dense gradients are asked for.
        memory_bytes: Training memory, activations apart.
        activation_bytes: Activations of one training step.
    """

    epochs: float
    batch: int
    forward: float
    dense_forward: float
    passes: int
    extra: dict[str, float]
    memory_bytes: int
    activation_bytes: int

    @classmethod
    def of(cls, network: Network, order: Order) -> Self:
        """The costs of `order`."""
        training = order.training
        top = {k: n for probe in order.probes if isinstance(probe, TopGradients) for k, n in probe.count.items()}
        batch = 0 if training is None else training.batch
        return cls(
            epochs=order.development if training is None else training.epochs,
            batch=batch,
            forward=forward_flops(network, order.mask),
            dense_forward=forward_flops(network, None),
            passes=1 if training is None else 3,
            extra={x: training_flops(network, order.mask, 0, top, 1, x) for x in ACCOUNTINGS},
            memory_bytes=memory_bytes(network, order.mask, training is not None and training.momentum > 0, top),
            activation_bytes=activation_bytes(network, batch),
        )

    def flops(self, examples: int) -> dict[str, float]:
        """Of a client with so many examples, by accounting."""
        passes = self.passes * self.forward * self.epochs * examples
        return {accounting: passes + extra * min(examples, self.batch) for accounting, extra in self.extra.items()}

    def dense_flops(self, examples: int) -> float:
        """What it would be without pruning."""
        return self.passes * self.dense_forward * self.epochs * examples
