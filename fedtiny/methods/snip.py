"""SNIP: before training, keep the weights whose presence matters most to the loss.

Lee, Ajanthan and Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019.

Give each weight w_j a switch c_j = 1. The loss's derivative by the switch is g_j w_j, with the gradient g at the dense
weights, summed over a mini-batch, or over `batches` of them. The score of j is |g_j w_j| / sum_i |g_i w_i|. The
density's share of highest scores stays, in one ranking over all layers; what stays is trained as it is.

Federated, in two ways. The server scores on its public examples (nothing crosses the network), or every client scores
on its own, once, and the server takes the mean weighted by examples: of the scores as the paper defines them, so each
sums to 1, and a client with a steep loss has no more to say than its examples give it.

Other than in the paper: weights are those after `pretraining`, where there is any; with `pretraining.epochs=0` they
are initial ones, as published. Each layer keeps one weight at least: a global ranking at extreme densities empties
layers. Batch norm normalises with the batch's statistics, as in training; public codes score in evaluation mode.
"""

from typing import Annotated, Literal

from pydantic import Field

from fedtiny.methods.one_shot import Asking
from fedtiny.payload.probes import Saliency

__all__ = ["Snip"]


class Snip(Asking):
    """One mask before training, by connection sensitivity (Lee et al., ICLR 2019)."""

    name: Literal["snip"] = "snip"
    batches: Annotated[int, Field(ge=1)] = 1
    """Batches that a scorer looks at, drawn at random; fewer where it has too few examples."""
    batch: Annotated[int, Field(ge=2)] = 128
    """Examples of such a batch."""

    def question(self, layers: tuple[str, ...]) -> Saliency:
        return Saliency(layers=layers, batches=self.batches, batch=self.batch)
