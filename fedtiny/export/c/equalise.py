"""Brings the ranges of channels nearer to each other: bytes have one scale for a whole tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isinf

import numpy as np
from numpy.typing import NDArray

from fedtiny.export.c.steps import Step
from fedtiny.export.graph import Conv

__all__ = ["Range", "equalised"]

_POWER = 0.5  # half the way: channels of one range would leave the weights of small ones too few bits
_LEAST = 2.0**-10


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """The least and the greatest value of each channel, and 0: (C,) float64 each."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


def equalised(made: Sequence[Step], ranges: Mapping[str, Range]) -> tuple[tuple[Step, ...], Mapping[str, Range]]:
    """Steps with the same logits, whose channels are divided by the root of what they reach, and the ranges of these.

    A convolution divides its outputs and multiplies by what its inputs were divided by, in its weights. What is summed
    or pooled shares its divisors. The picture, the logits, and what is clipped at a number (ReLU6) stay as they are.
    """
    group = _groups(made)
    fixed = {group["image"], group[made[-1].name]} | {group[s.name] for s in made if not isinf(s.high)}
    divisors: dict[str, NDArray[np.float64]] = {}
    for name, of in ranges.items():
        reached = np.maximum(-of.low, of.high)
        divisors[group[name]] = np.maximum(divisors.get(group[name], 0.0), reached)
    for root, reached in divisors.items():
        share = (reached / reached.max()) ** _POWER if reached.max() > 0 else np.ones_like(reached)
        divisors[root] = np.ones_like(share) if root in fixed else np.where(share > 0, np.maximum(share, _LEAST), 1.0)
    scaled = {
        name: Range(of.low / divisors[group[name]], of.high / divisors[group[name]]) for name, of in ranges.items()
    }
    steps = tuple(_scaled(step, divisors[group[step.x]], divisors[group[step.name]]) for step in made)
    return steps, scaled


def _groups(made: Sequence[Step]) -> dict[str, str]:
    """Name -> one name for all outputs whose channels must be scaled alike."""
    group = {"image": "image"}
    for step in made:
        alike = [] if isinstance(step.operation, Conv) else [step.x]
        alike += [] if step.also is None else [step.also]
        group[step.name] = step.name
        for other in alike:
            old, new = group[other], group[step.name]
            group = {name: new if root == old else root for name, root in group.items()}
    return group


def _scaled(step: Step, x: NDArray[np.float64], out: NDArray[np.float64]) -> Step:
    """The step behind an input divided by `x`, its output divided by `out`: (inputs,) and (outputs,)."""
    if not isinstance(step.operation, Conv):
        return step
    conv = step.operation
    inputs = np.tile(x, (len(out), 1)) if conv.groups == 1 else x.repeat(len(out) // len(x))[:, None]
    weight = conv.weight * inputs[:, :, None, None] / out[:, None, None, None]
    bias = (conv.bias / out).astype(np.float32)
    return replace(step, operation=replace(conv, weight=weight.astype(np.float32), bias=bias))
