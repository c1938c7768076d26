"""How much the loss depends on each weight being there: what SNIP keeps by."""

from typing import Literal

from fedtiny.payload.probes.base import Look
from fedtiny.payload.probes.scoring import Scoring

__all__ = ["Saliency"]


class Saliency(Scoring):
    """Asks for |g w| / sum |g w| of each weight w, with its gradient g summed over all examples of the batches."""

    kind: Literal["saliency"] = "saliency"

    @property
    def look(self) -> Look:
        """Forward and backward: three passes."""
        return Look(self.batch, self.batches, passes=3)
