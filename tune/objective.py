"""What a sweep looks for: figures of a run's summary, upwards or downwards."""

from collections.abc import Mapping, Sequence
from typing import Literal

from fedtiny.value import Value

__all__ = ["Direction", "Objective", "front"]

Direction = Literal["max", "min"]


class Objective(Value):
    """One figure of `summary.json` and the way it should go."""

    figure: str
    """Key of `summary.json`, or of its records while a run goes on; for example validation_accuracy or upload_bytes."""
    direction: Direction
    """Upwards or downwards."""

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is strictly better than `other`."""
        return self.worth(one) > self.worth(other)

    def worth(self, value: float) -> float:
        """The value, or its negative, so that more is better."""
        return value if self.direction == "max" else -value


def front(points: Sequence[Mapping[str, float]], objectives: Sequence[Objective]) -> list[int]:
    """Indices of the points that no other point dominates: is at least as good in all objectives and better in one.

    Args:
        points: Figure -> value, for each objective.
        objectives: One or more.
    """

    def dominates(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
        figures = [(objective, one[objective.figure], other[objective.figure]) for objective in objectives]
        return not any(o.better(b, a) for o, a, b in figures) and any(o.better(a, b) for o, a, b in figures)

    return [i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)]
