"""How a device trains."""

import math
from typing import Annotated, Literal

from pydantic import Field

from fedtiny.payload.extrusion import Extrusion
from fedtiny.value import Value

__all__ = ["Training"]


class Training(Value):
    """Local training: stochastic gradient descent, its optimizer state made anew for every round."""

    epochs: Annotated[int, Field(ge=1)] = 5
    """Passes over the local examples."""
    batch: Annotated[int, Field(ge=2)] = 64
    """Examples a step."""
    lr: Annotated[float, Field(gt=0)] = 0.05
    """Learning rate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """L2 penalty: weight_decay * weight is added to each gradient."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Longest gradient of a step: a longer one, over all trained weights (L2 norm), is scaled down; none leaves it.

    Before decay and penalties are added, and after probes have read it.
    """
    lr_schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over rounds: constant, or down a half cosine to 0 after the last one."""

    activation_density: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of a convolution's input that is kept for the backward pass, the largest magnitudes; 1 keeps all."""
    extrusion: Extrusion | None = None
    """Weights to empty while training, if a method orders it; none in a configuration."""

    @property
    def first_lr(self) -> float:
        """The learning rate of the first round."""
        return self.lr

    def at(self, round: int, rounds: int) -> "Training":
        """The training of one round: the learning rate of this place in the schedule, the rest unchanged."""
        if self.lr_schedule == "constant":
            return self
        lr = self.lr * (1 + math.cos(math.pi * round / rounds)) / 2
        return _Scheduled.model_validate(self.model_dump() | {"lr": lr, "start": self.lr})


class _Scheduled(Training):
    """A later round's training, which remembers where its learning rate came from. That does not travel."""

    start: float

    @property
    def first_lr(self) -> float:
        return self.start
