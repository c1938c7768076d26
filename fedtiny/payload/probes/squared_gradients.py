"""The squares of accumulated dense gradients: what PruneFL calls a weight's importance."""

from typing import Literal

import numpy as np
import torch

from fedtiny.payload.probes.base import Demand, Most, Places, Question, Sizes
from fedtiny.payload.probes.scores import Scores, decode_scores

__all__ = ["SquaredGradients", "Squares"]


class Squares(Scores):
    """Answers `SquaredGradients`: parameter name -> (N,) float32, none below 0."""

    __slots__ = ()

    def check(self, sizes: Sizes, places: Places, most: Most) -> None:
        """Raises a ValueError that says what no honest client could have measured."""
        for name, values in self.layers.items():  # they are sorted, never summed exactly: any size will do
            if not values.isfinite().all():
                raise ValueError(f"squares of {name} are not finite: it diverged")
            if (values < 0).any():
                raise ValueError(f"squares of {name} must not be negative, got {float(values.min()):g}")


class SquaredGradients(Question):
    """Asks for (sum_i g_i)^2 of every weight of some layers, kept or not, over all steps i of training.

    g_i is dL/dw of the batch of step i at the masked weights, before that step is made and without weight decay. The
    client holds one sum a weight: as much as the dense layers themselves.
    """

    kind: Literal["squared_gradients"] = "squared_gradients"
    layers: tuple[str, ...]
    """Parameters to tell of."""

    def demand(self, sizes: Sizes) -> Demand:
        """The layers' dense gradients in every step, and 4 bytes for each of their weights."""
        return Demand(self.layers, every_step=True, held_bytes=4 * sum(sizes[name] for name in self.layers))

    def answer_bytes(self, sizes: Sizes) -> int:
        """Bytes of the answer: 4 a weight."""
        return 4 * sum(sizes[name] for name in self.layers)

    def decode(self, buffer: memoryview, sizes: Sizes) -> tuple[Squares, int]:
        """Reads the answer at the start of `buffer`; returns it and the bytes it took."""
        scores, taken = decode_scores(buffer, self.layers, sizes)
        return Squares(scores.layers), taken

    def blank(self, sizes: Sizes, places: Places, rng: np.random.Generator) -> Squares:
        """A made-up answer, to count bytes with: random squares, so that the mask moves."""
        return Squares({name: torch.from_numpy(rng.random(sizes[name], np.float32)) for name in self.layers})
