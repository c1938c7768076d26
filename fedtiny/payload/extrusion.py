"""Budget-aware extrusion: weights that are soon to be dropped are emptied first (FedMef)."""

import math
from typing import Annotated

from pydantic import Field

from fedtiny.value import Value

__all__ = ["Extrusion"]


class Extrusion(Value):
    """Asks that the smallest kept weights of some layers be pushed towards 0 while a device trains.

    theta_low is what they are at the start: `counts[name]` kept weights of least magnitude of each layer. In every step
    penalty * ||theta_low||^2 is added to the loss, and the learning rate is max(eta, beta) with

        beta = p(t) * (2 * sigmoid(||theta_low||) - 1) * lr,    p(t) = (2 T - 2 t) / (2 T - t)

    in step t of the T steps of the round: the budgeted schedule REX (Chen, Wolfe and Kyrillidis, MLSys 2022).
    """

    counts: dict[str, Annotated[int, Field(ge=0)]]
    """Parameter name -> its weights in theta_low, at most those that are kept."""
    penalty: Annotated[float, Field(ge=0)]
    """lambda: 2 * lambda * w is added to the gradient of each weight in theta_low."""
    lr: Annotated[float, Field(gt=0)]
    """eta_0: the learning rate that beta starts from at most."""

    def rate(self, eta: float, norm: float, step: int, steps: int) -> float:
        """The learning rate of a step, max(eta, beta): `eta` itself once theta_low is empty.

        Args:
            eta: What the learning rate is otherwise.
            norm: ||theta_low||, the root of the sum of squares over all layers, before the step.
            step: t, from 0.
            steps: T.
        """
        left = (2 * steps - 2 * step) / (2 * steps - step)
        return max(eta, left * math.tanh(norm / 2) * self.lr)  # tanh(x / 2) is 2 sigmoid(x) - 1

    @property
    def held_bytes(self) -> int:
        """Bytes to remember which weights they are: 4 each."""
        return 4 * sum(self.counts.values())
