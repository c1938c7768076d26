"""What an order costs a client, modelled: FLOPs by accounting, memory."""

from dataclasses import dataclass
from typing import Self

from fedtiny.payload.messages import Order
from fedtiny.payload.probes import Look
from fedtiny.payload.training import Training
from fedtiny.sparse.cost import Accounting, activation_bytes, dense_gradient_flops, forward_flops, memory_bytes
from fedtiny.sparse.network import Network

__all__ = ["ACCOUNTINGS", "Effort"]

ACCOUNTINGS: tuple[Accounting, ...] = ("rigl", "fedrts")


@dataclass(frozen=True, slots=True)
class Effort:
    """The costs of one order; those of a client follow from its examples.

    Attributes:
        epochs: Passes over the local examples; a share of one where nothing is trained.
        look: What is looked at where nothing is trained.
        before: The share that is measured before training; as all shares, of the examples that are not held out.
        batch: Examples a step.
        forward: FLOPs of one example's forward pass.
        dense_forward: The same without pruning.
        passes: Forward passes that an example takes: three if it is trained on, or what the probes say.
        once: FLOPs of one example more, by accounting, in a step whose dense gradients are asked for.
        always: FLOPs of one example more, by accounting, in every step.
        memory_bytes: Training memory, activations apart.
        activation_bytes: Activations of one training step.
    """

    epochs: float
    look: Look
    before: float
    batch: int
    forward: float
    dense_forward: float
    passes: int
    once: dict[str, float]
    always: dict[str, float]
    memory_bytes: int
    activation_bytes: int

    @classmethod
    def of(cls, network: Network, order: Order) -> Self:
        """The costs of `order`, or of what is asked of one client in it: see `Order.of`."""
        training, mask = order.training, order.mask
        demands = order.demands({layer.name: layer.size for layer in network.layers})
        always = {name for demand in demands if demand.every_step for name in demand.dense}
        once = {name for demand in demands for name in demand.dense} - always
        measured = order.holdout / (1 - order.holdout) if order.holdout else order.development
        first = training is not None and any(probe.measures for probe in order.probes)
        return cls(
            epochs=measured if training is None else training.epochs,
            before=measured if first else 0.0,
            look=Look() if training is not None else order.look,
            batch=0 if training is None else training.batch,
            forward=forward_flops(network, mask),
            dense_forward=forward_flops(network, None),
            passes=order.look.passes if training is None else 3,
            once={x: dense_gradient_flops(network, mask, once, x) for x in ACCOUNTINGS},
            always={x: dense_gradient_flops(network, mask, always, x) for x in ACCOUNTINGS},
            memory_bytes=memory_bytes(
                network,
                mask,
                training is not None and training.momentum > 0,
                once | always,
                sum(demand.held_bytes for demand in demands) + _extruded_bytes(training),
            ),
            activation_bytes=0
            if training is None
            else activation_bytes(network, training.batch, training.activation_density),
        )

    def flops(self, examples: int) -> dict[str, float]:
        """Of a client with so many examples that are not held out, by accounting."""
        seen, before = self.look.examples(self.epochs * examples), self.forward * self.before * examples
        return {
            x: (self.passes * self.forward + self.always[x]) * seen + self.once[x] * min(examples, self.batch) + before
            for x in ACCOUNTINGS
        }

    def dense_flops(self, examples: int) -> float:
        """What it would be without pruning."""
        return self.passes * self.dense_forward * self.look.examples(self.epochs * examples)


def _extruded_bytes(training: Training | None) -> int:
    return 0 if training is None or training.extrusion is None else training.extrusion.held_bytes
