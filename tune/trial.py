"""One trial of a sweep: a sample of the space, and what its run came to so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Knob", "Status", "Trial"]

Status = Literal["waiting", "running", "finished", "stopped", "failed"]
"""Stopped: ended early by the scheduler; its run folder holds the rounds that it made."""

Knob = str | int | float | bool | None
"""A sampled value; a mapping or list of the space is told as compact JSON."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial, as it is written down and shown.

    Attributes:
        name: Its folder below `trials/`.
        sample: Dotted key of a run's configuration -> value; keys that do not apply (conditional ones) are absent.
        status: Where it stands.
        reason: Why it failed or was stopped, in a line; else empty.
        rounds: Rounds that it made.
        figures: Figures of `summary.json` if finished, of the last evaluated round's record otherwise: numbers only.
        seconds: Wall-clock that its run took, all sessions together.
    """

    name: str
    sample: Mapping[str, Knob]
    status: Status = "waiting"
    reason: str = ""
    rounds: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def over(self) -> bool:
        """Whether there is nothing more to make of it: it has finished, or was stopped early."""
        return self.status in ("finished", "stopped")

    @property
    def ended(self) -> bool:
        """Whether this sweep leaves it alone: it is over, or has failed as often as it may."""
        return self.over or self.status == "failed"
