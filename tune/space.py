"""The space of a sweep: for each dotted key of a run's configuration, the values that it may take."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Literal, Self, get_args

import numpy as np
from pydantic import field_validator, model_validator

from fedtiny.config.schema import RunConfig
from fedtiny.value import Value
from tune.trial import Knob

__all__ = [
    "Dimension",
    "Sample",
    "Space",
    "drawn",
    "grid",
    "knob",
    "looked_up",
    "named",
    "ordered",
    "parts",
    "picked",
    "taken",
]

Kind = Literal["grid", "choice", "uniform", "loguniform", "randint"]
Sample = dict[str, object]
"""Dotted key -> value."""

_RANGES = ("uniform", "loguniform", "randint")
_FORMS = "a list for a grid, or one of {choice: [...]}, {uniform: [a, b]}, {loguniform: [a, b]}, {randint: [a, b]}"


class Dimension(Value):
    """The values of one key: `[a, b, c]` for a grid, or `{KIND: [...], when: {KEY: VALUE}}`.

    Keys that go together, with commas between, have lists of as many values: `clients, cohort: [[10, 5], [100, 20]]`.
    """

    kind: Kind
    """How values are chosen; both ends of a range belong to it."""
    values: tuple[object, ...]
    """What there is to choose from, or the two ends of a range."""
    when: Mapping[str, object] = {}
    """Key -> the value, or the list of values, that it must have for this key to be varied; else it is left out."""

    @model_validator(mode="before")
    @classmethod
    def _told(cls, told: object) -> object:
        if isinstance(told, list | tuple):
            return {"kind": "grid", "values": told}
        if isinstance(told, Mapping) and "kind" not in told:
            kinds = [key for key in told if key in get_args(Kind)]
            if len(kinds) == 1 and set(told) <= {*kinds, "when"}:
                return {"kind": kinds[0], "values": told[kinds[0]], "when": told.get("when", {})}
        if not isinstance(told, Mapping) or "kind" not in told:
            raise ValueError(f"must be {_FORMS}, each with `when` beside it if need be")
        return told

    @field_validator("values", mode="before")
    @classmethod
    def _numbers(cls, told: object) -> object:
        return [_number(x) for x in told] if isinstance(told, list | tuple) else told

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.values:
            raise ValueError("must name at least one value")
        if self.kind not in _RANGES:
            return self
        kinds = (int,) if self.kind == "randint" else (int, float)
        if len(self.values) != 2 or not all(isinstance(x, kinds) and not isinstance(x, bool) for x in self.values):
            raise ValueError(f"{self.kind} must have two {'whole ' if self.kind == 'randint' else ''}numbers")
        low, high = self.ends
        if not low < high or (self.kind == "loguniform" and low <= 0):
            raise ValueError(f"{self.kind} must go upwards{' from above 0' if self.kind == 'loguniform' else ''}")
        return self

    @property
    def listed(self) -> bool:
        """Whether its values can be counted."""
        return self.kind not in _RANGES

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of a range."""
        low, high = self.values
        assert isinstance(low, int | float)
        assert isinstance(high, int | float)
        return low, high

    def applies(self, sample: Mapping[str, object], base: Mapping[str, object]) -> bool:
        """Whether it is varied where the keys before it have these values.

        Args:
            sample: Key -> value, of the keys that were chosen already.
            base: The configuration that samples are applied to, as JSON has it.
        """
        for key, wanted in self.when.items():
            value = sample[key] if key in sample else looked_up(base, key)
            if value not in (wanted if isinstance(wanted, list) else [wanted]):
                return False
        return True


Space = Mapping[str, Dimension]
Pick = Callable[[str, Dimension], object]


def ordered(space: Space) -> Space:
    """The space, each key after those that it depends on.

    Raises:
        ValueError: Keys depend on each other in a circle.
    """
    left, found = dict(space), dict[str, Dimension]()
    while left:
        names = {part for key in left for part in parts(key)}
        ready = [key for key, dimension in left.items() if names.isdisjoint(dimension.when)]
        if not ready:
            raise ValueError(f"the conditions of {', '.join(left)} depend on each other in a circle")
        found |= {key: left.pop(key) for key in ready}
    return found


def grid(space: Space, base: RunConfig) -> list[Sample]:
    """All combinations of listed values; the last key changes fastest."""
    tree = base.model_dump(mode="json")
    samples: list[Sample] = [{}]
    for key, dimension in ordered(space).items():
        samples = [
            longer
            for sample in samples
            for longer in (
                [sample | named(key, value) for value in dimension.values]
                if dimension.applies(sample, tree)
                else [sample]
            )
        ]
    return samples


def drawn(space: Space, base: RunConfig, pick: Pick) -> Sample:
    """One sample; `pick` chooses the value of each key that applies."""
    tree, sample = base.model_dump(mode="json"), Sample()
    for key, dimension in ordered(space).items():
        if dimension.applies(sample, tree):
            sample |= named(key, pick(key, dimension))
    return sample


def named(key: str, value: object) -> Sample:
    """Key -> value; of keys that go together, each with its own.

    Raises:
        ValueError: There are not as many values as keys.
    """
    keys = parts(key)
    if len(keys) == 1:
        return {key: value}
    if not isinstance(value, list | tuple) or len(value) != len(keys):
        raise ValueError(f"{key}: {len(keys)} keys that go together need lists of as many values, got {value!r}")
    return dict(zip(keys, value, strict=True))


def parts(key: str) -> list[str]:
    """The dotted keys that go together in a key of the space: one, or those between commas."""
    return [part.strip() for part in key.split(",")]


def taken(sample: Mapping[str, object], key: str) -> tuple[object, ...]:
    """The value that a sample has of a key of the space, as the space names it; empty if it has none."""
    keys = parts(key)
    if not all(part in sample for part in keys):
        return ()
    return (sample[key] if len(keys) == 1 else [sample[part] for part in keys],)


def picked(rng: np.random.Generator, dimension: Dimension) -> object:
    """A value by chance: uniform over what is listed or over the range, or over its logarithm."""
    if dimension.listed:
        return dimension.values[int(rng.integers(len(dimension.values)))]
    low, high = dimension.ends
    if dimension.kind == "randint":
        return int(rng.integers(int(low), int(high), endpoint=True))
    if dimension.kind == "uniform":
        return float(rng.uniform(low, high))
    return min(high, max(low, float(np.exp(rng.uniform(np.log(low), np.log(high))))))


def knob(value: object) -> Knob:
    """A value as tables tell it."""
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)


def _number(value: object) -> object:
    """YAML 1.1 takes 1e-3 for a word."""
    if isinstance(value, list):  # of keys that go together
        return [_number(x) for x in value]
    exponent = isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value)
    return float(str(value)) if exponent else value


def looked_up(tree: Mapping[str, object], key: str) -> object:
    """The value of a dotted key; None where there is none."""
    found: object = tree
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
