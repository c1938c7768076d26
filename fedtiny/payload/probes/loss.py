"""The loss on local data: the second half of FedTiny's adaptive batch-norm selection."""

import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedtiny.payload.probes.base import Places, Question, Sizes

__all__ = ["LocalLoss", "Loss"]


@dataclass(frozen=True, slots=True)
class Loss:
    """Answers `LocalLoss`: the sum of the losses of all development examples, and how many there are."""

    total: float
    examples: int

    def encode(self, sizes: Sizes) -> bytes:
        """The bytes on the wire: 8."""
        return struct.pack("<fI", self.total, self.examples)

    def check(self, sizes: Sizes, places: Places) -> None:
        """Raises a ValueError that says what no honest client could have measured. NaN is: of a hopeless candidate."""
        if self.total < 0 or self.examples < 1:
            raise ValueError(f"the loss of some examples must be at least 0, got {self.total} of {self.examples}")


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
