"""What a trial must keep to be taken for the best: `density <= 0.01`, `memory_bytes <= 512_000`."""

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import model_validator

from fedtiny.value import Value

__all__ = ["Constraint"]

_FORM = re.compile(r"\s*(\w+)\s*(<=|>=)\s*(\S+)\s*")


class Constraint(Value):
    """A figure and its bound."""

    figure: str
    """Key of a trial's figures."""
    relation: Literal["<=", ">="]
    """At most, or at least."""
    bound: float
    """In the figure's unit."""

    @model_validator(mode="before")
    @classmethod
    def _told(cls, told: object) -> object:
        if not isinstance(told, str):
            return told
        form = _FORM.fullmatch(told)
        try:
            if form:
                return {"figure": form[1], "relation": form[2], "bound": float(form[3])}
        except ValueError:
            pass
        raise ValueError("must be FIGURE <= NUMBER or FIGURE >= NUMBER")

    def __str__(self) -> str:
        return f"{self.figure} {self.relation} {self.bound:g}"

    def excess(self, figures: Mapping[str, float]) -> float:
        """By how much the bound is broken; 0 or less if it is kept, infinite where the figure is not known."""
        if self.figure not in figures:
            return float("inf")
        over = figures[self.figure] - self.bound
        return over if self.relation == "<=" else -over

    def holds(self, figures: Mapping[str, float]) -> bool:
        """Whether it is kept."""
        return self.excess(figures) <= 0
