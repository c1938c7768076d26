"""The accuracy on local data: LotteryFL's clients prune once it is good enough."""

import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedtiny.payload.probes.base import Most, Places, Question, Sizes

__all__ = ["Accuracy", "LocalAccuracy"]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Answers `LocalAccuracy`: how many examples were classified correctly, of how many; none of none is possible."""

    correct: int
    examples: int

    def encode(self, sizes: Sizes) -> bytes:
        """The bytes on the wire: 8."""
        return struct.pack("<II", self.correct, self.examples)

    def check(self, sizes: Sizes, places: Places, most: Most) -> None:
        """Raises a ValueError that says what no honest client could have measured."""
        if self.correct > self.examples:
            raise ValueError(f"correct must be at most the examples, got {self.correct} of {self.examples}")
        if self.examples > most.examples:
            raise ValueError(f"accuracy must be of at most {most.examples} examples, got {self.examples}")


class LocalAccuracy(Question):
    """Asks for the accuracy on local data, with batch norm in evaluation mode. No training."""

    kind: Literal["local_accuracy"] = "local_accuracy"

    @property
    def measures(self) -> bool:
        return True

    def answer_bytes(self, sizes: Sizes) -> int:
        """Bytes of the answer."""
        return 8

    def blank(self, sizes: Sizes, places: Places, rng: np.random.Generator) -> Accuracy:
        """A made-up answer, to count bytes with: of a client that does well."""
        return Accuracy(1, 1)

    def decode(self, buffer: memoryview, sizes: Sizes) -> tuple[Accuracy, int]:
        """Reads the answer at the start of `buffer`; returns it and the bytes it took."""
        correct, examples = struct.unpack_from("<II", buffer, 0)
        return Accuracy(correct, examples), 8
