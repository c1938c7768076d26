"""What becomes of the gradient's norm when a weight goes: what GraSP prunes by."""

from typing import Annotated, Literal

from pydantic import Field

from fedtiny.payload.probes.base import Demand, Look, Sizes
from fedtiny.payload.probes.scoring import Scoring

__all__ = ["GradientFlow"]


class GradientFlow(Scoring):
    """Asks for S / sum |S| of each weight w, with S = -w (H g).

    g is the gradient of the loss with respect to the weights of all convolutions and linear layers, summed over the
    batches, H the Hessian; logits are divided by `temperature`. Taking a weight away changes |g|^2 by about 2 S.
    """

    kind: Literal["gradient_flow"] = "gradient_flow"
    temperature: Annotated[float, Field(gt=0)]
    """What logits are divided by."""

    @property
    def look(self) -> Look:
        """A gradient twice (3 + 3), and the gradient of its graph (6): twelve passes."""
        return Look(self.batch, self.batches, passes=12)

    def demand(self, sizes: Sizes) -> Demand:
        """The gradient that stands while the Hessian is multiplied with it; its graph counts as activations."""
        return Demand(held_bytes=4 * sum(sizes[name] for name in self.layers))
