"""GraSP: before training, drop the weights without which the gradient flows best.

Wang, Zhang and Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR 2020.

With the gradient g and the Hessian H of the loss at the dense weights w, taking weight j away changes |g|^2 by about
2 S_j, where S = -w (H g). The weights of LARGEST S go, since the gradient grows without them; the density's share of
lowest S stays, in one ranking over all layers. Logits are divided by `temperature` first. g is summed over all batches
(the paper's two halves of ten examples a class), then held fixed while H g, the gradient of <g, g(w)>, is summed over
the same batches.

Federated, in two ways: see `scorer`. Each client's S is divided by sum |S|, and the server takes the mean weighted by
examples. The published code divides by |sum S|, which changes nothing for one scorer, but may be near 0 and would then
let one client drown all others.

Other than in the paper: weights are those after `pretraining`, where there is any (`pretraining.epochs=0` is as
published), and the output layer is scored as it is, not drawn anew. Each layer keeps one weight at least.
"""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from fedtiny.methods.one_shot import Asking
from fedtiny.payload.probes import GradientFlow

__all__ = ["Grasp"]


class Grasp(Asking):
    """One mask before training, by preserving gradient flow (Wang et al., ICLR 2020)."""

    name: Literal["grasp"] = "grasp"
    batches: Annotated[int, Field(ge=1)] = 2
    """Batches that a scorer looks at, drawn at random; fewer where it has too few examples."""
    batch: Annotated[int, Field(ge=2)] = 50
    """Examples of such a batch."""
    temperature: Annotated[float, Field(gt=0)] = 200.0
    """What logits are divided by while scoring."""

    def question(self, layers: tuple[str, ...]) -> GradientFlow:
        return GradientFlow(layers=layers, batches=self.batches, batch=self.batch, temperature=self.temperature)

    def ranked(self, score: Tensor) -> Tensor:
        return -score
