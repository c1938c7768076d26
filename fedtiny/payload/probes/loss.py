"""The loss on local data: the second half of FedTiny's adaptive batch-norm selection."""

import math
import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedtiny.payload.probes.base import LARGEST, Most, Places, Question, Sizes

__all__ = ["LocalLoss", "Loss"]

_FLOAT32_MOST = 3.4e38  # more does not fit the wire


@dataclass(frozen=True, slots=True)
class Loss:
    """Answers `LocalLoss`: the sum of the losses of all development examples, and how many there are.

    Of a hopeless candidate an honest client may measure NaN, infinity or any size: such an answer is no lie, but
    no number to count with either (see `hopeless`).
    """

    total: float
    examples: int

    @property
    def hopeless(self) -> bool:
        """Whether the mean loss is no number within bounds."""
        return not self.total <= LARGEST * self.examples

    def encode(self, sizes: Sizes) -> bytes:
        """The bytes on the wire: 8."""
        total = self.total if not self.total > _FLOAT32_MOST else math.inf
        return struct.pack("<fI", total, self.examples)

    def check(self, sizes: Sizes, places: Places, most: Most) -> None:
        """Raises a ValueError that says what no honest client could have measured."""
        if self.total < 0 or self.examples < 1:
            raise ValueError(f"the loss of some examples must be at least 0, got {self.total} of {self.examples}")
        if self.examples > most.examples:
            raise ValueError(f"the loss must be of at most {most.examples} examples, got {self.examples}")


class LocalLoss(Question):
    """Asks for the loss on the local development data, with batch norm in evaluation mode. No training."""

    kind: Literal["local_loss"] = "local_loss"

    @property
    def measures(self) -> bool:
        return True

    def answer_bytes(self, sizes: Sizes) -> int:
        """Bytes of the answer."""
        return 8

    def decode(self, buffer: memoryview, sizes: Sizes) -> tuple[Loss, int]:
        """Reads the answer at the start of `buffer`; returns it and the bytes it took."""
        total, examples = struct.unpack_from("<fI", buffer, 0)
        return Loss(total, examples), 8

    def blank(self, sizes: Sizes, places: Places, rng: np.random.Generator) -> Loss:
        """A made-up answer, to count bytes with: the same for every network."""
        return Loss(1.0, 1)
