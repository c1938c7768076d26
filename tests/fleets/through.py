"""A fleet in front of another, for tests that look on or interfere."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedtiny.payload.fleet import Fleet

__all__ = ["Through"]


@dataclass(frozen=True)
class Through:
    """Says of itself what the fleet behind it says; who inherits sends."""

    fleet: Fleet

    @property
    def size(self) -> int:
        return self.fleet.size

    @property
    def spent(self) -> Mapping[str, float]:
        return self.fleet.spent
