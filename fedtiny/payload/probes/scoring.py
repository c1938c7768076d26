"""What questions for a score of every weight have in common."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from fedtiny.payload.probes.base import Places, Question, Sizes
from fedtiny.payload.probes.scores import Scores, decode_scores

__all__ = ["Scoring"]


class Scoring(Question):
    """Asks for a number for each weight of some layers, measured on a few batches. No training.

    The network must be dense. The numbers' magnitudes sum to 1 over all layers asked for.
    """

    layers: tuple[str, ...]
    """Parameters to score."""
    batches: Annotated[int, Field(ge=1)]
    """Batches to look at, drawn at random; fewer where there are too few examples."""
    batch: Annotated[int, Field(ge=2)]
    """Examples a batch: batch norm normalises with their statistics."""

    def answer_bytes(self, sizes: Sizes) -> int:
        """Bytes of the answer."""
        return 4 * sum(sizes[name] for name in self.layers)

    def blank(self, sizes: Sizes, places: Places, rng: np.random.Generator) -> Scores:
        """A made-up answer, to count bytes with: random scores."""
        return Scores({name: torch.from_numpy(rng.random(sizes[name], np.float32)) for name in self.layers})

    def decode(self, buffer: memoryview, sizes: Sizes) -> tuple[Scores, int]:
        """Reads the answer at the start of `buffer`; returns it and the bytes it took."""
        return decode_scores(buffer, self.layers, sizes)
