"""Settings that change on the way: which method and which local training a round has."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedtiny.methods.base import Method
from fedtiny.payload.training import Training

__all__ = ["Phase", "phase"]


@dataclass(frozen=True, slots=True)
class Phase:
    """Rounds with the same settings.

    Attributes:
        start: The first of them; they go on until the next phase starts.
        method: The pruning method.
        training: Local training; its learning rate has the run's schedule over it.
    """

    start: int
    method: Method
    training: Training


def phase(phases: Sequence[Phase], round: int) -> Phase:
    """The phase that a round (0-based) belongs to.

    Args:
        phases: At least one, in the order of their starts; the first starts at 0.
        round: Of the run.
    """
    return max((x for x in phases if x.start <= round), key=lambda x: x.start)
