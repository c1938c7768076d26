"""The settings that a sweep varied, as axes: numbers stay numbers, everything else is an ordinal place."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tune.trial import Knob, Trial
from tune.wording import number, words

__all__ = ["ABSENT", "SEED", "Axis", "axis", "knobs", "logarithmic", "numeric", "others"]

SEED = "seed"
"""Repeats rather than a setting: trials that differ in it alone are the same trial again."""

ABSENT = "-"
"""What is shown of a setting that a trial has not, as the others' method has it."""


def knobs(trials: Sequence[Trial]) -> list[str]:
    """Dotted keys in which trials differ, in the order of the space; without the seed."""
    keys = dict.fromkeys(key for trial in trials for key in trial.sample if key != SEED)
    return [key for key in keys if len({words(t.sample[key]) if key in t.sample else ABSENT for t in trials}) > 1]


def others(sample: Mapping[str, Knob], *keys: str) -> tuple[tuple[str, str], ...]:
    """The sample without some keys, to be compared."""
    return tuple(sorted((key, words(value)) for key, value in sample.items() if key not in keys))


def numeric(values: Sequence[Knob]) -> bool:
    """Whether all are numbers."""
    return bool(values) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)


def logarithmic(values: Sequence[float]) -> bool:
    """Whether an axis of these numbers is better logarithmic: all positive, and eight times apart."""
    return bool(values) and min(values) > 0 and max(values) >= 8 * min(values)


@dataclass(frozen=True, slots=True)
class Axis:
    """A setting of many trials on an axis.

    Attributes:
        key: Its dotted key.
        positions: Where each trial is; a trial without the setting is below all others.
        ticks: Position and text.
        ordered: Whether positions are those of numbers (or of their logarithms), rather than of words.
    """

    key: str
    positions: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]
    ordered: bool

    @property
    def span(self) -> tuple[float, float]:
        """From the least position or tick to the largest, never empty."""
        at = [*self.positions, *(x for x, _ in self.ticks)]
        low, high = (min(at), max(at)) if at else (0.0, 0.0)
        return (low, high) if high > low else (low - 0.5, high + 0.5)


def axis(key: str, trials: Sequence[Trial]) -> Axis:
    """The axis of a setting over trials."""
    values = [trial.sample[key] for trial in trials if key in trial.sample]
    numbers = [float(x) for x in values if isinstance(x, int | float) and not isinstance(x, bool)]
    if numeric(values):
        log = logarithmic(numbers)
        places = [math.log10(x) if log else x for x in numbers]
        low, high = min(places), max(places)
        distinct = sorted(set(places))
        at = distinct if len(distinct) <= 8 else [low + (high - low) * i / 4 for i in range(5)]
        ticks = [(x, number(10**x if log else x)) for x in at]
        absent = low - 0.15 * (high - low or 1.0)
        known = iter(places)
        positions = tuple(next(known) if key in trial.sample else absent for trial in trials)
    else:
        names = list(dict.fromkeys(map(words, values)))
        ticks = [(float(i), name) for i, name in enumerate(names)]
        absent = -1.0
        positions = tuple(
            float(names.index(words(trial.sample[key]))) if key in trial.sample else absent for trial in trials
        )
    if len(values) < len(trials):
        ticks.insert(0, (absent, ABSENT))
    return Axis(key, positions, tuple(ticks), numeric(values))
