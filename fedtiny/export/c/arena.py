"""Where each buffer lies: outputs share memory as soon as nobody reads them any more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from fedtiny.export.c.steps import Step
from fedtiny.export.graph import Add, Conv

__all__ = ["Arena", "Buffer", "arranged", "buffers", "sum_rows", "sums_of"]

_TRIES = 200
_SUMS = 256  # 1 kB of sums at a time costs next to nothing in speed


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory for one or several names, one after the other.

    Attributes:
        names: Of the outputs that lie in it.
        nbytes: Multiple of 4.
        first: Index of the step that writes it first.
        last: Index of the step that reads it last.
    """

    names: tuple[str, ...]
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Arena:
    """The byte at which each name's memory starts, a multiple of 4, and how many there are in all."""

    offsets: Mapping[str, int]
    nbytes: int


def sums_of(name: str) -> str:
    """The name of the memory in which the step sums up, if it has any."""
    return f"sums of {name}"


def sum_rows(step: Step, over: bool, width: Literal[1, 4]) -> int:
    """Rows of a convolution's output that are summed up outside of it; 0 if it sums up where its output lies.

    Args:
        step: A convolution.
        over: Whether it writes over its input: then it needs a whole plane, which is copied at its end.
        width: Bytes of a value. Bytes are too small for sums: as many rows at a time as fit into 1 kB, at least one.
    """
    _, height, columns = step.shape
    if over:
        return height
    return 0 if width == 4 else max(1, min(height, _SUMS // columns))


def buffers(made: Sequence[Step], width: Literal[1, 4]) -> list[Buffer]:
    """The buffers of all steps but the logits, which go to the caller; of the picture, too, if values are bytes.

    A step writes over its input where it can: element by element, a pool from the front, a depthwise convolution a
    plane at a time, a convolution over what its product is added to.

    Args:
        made: The steps.
        width: Bytes of a value: 4 for float32, 1 for int8.
    """
    last = {name: i for i, step in enumerate(made) for name in step.inputs}
    held: list[Buffer] = []
    place: dict[str, int] = {}
    if width == 1:
        held.append(Buffer(("image",), _nbytes(made[0].reads, width), -1, last["image"]))
        place["image"] = 0
    for i, step in enumerate(made):
        over = (
            [name for name in _overwritten(step) if last[name] == i and name in place] if step is not made[-1] else []
        )
        if over:
            at = place[over[0]]
            old = held[at]
            held[at] = Buffer(
                (*old.names, step.name), max(old.nbytes, _nbytes(step.shape, width)), old.first, last[step.name]
            )
            place[step.name] = at
        elif step is not made[-1]:
            place[step.name] = len(held)
            held.append(Buffer((step.name,), _nbytes(step.shape, width), i, last[step.name]))
        if isinstance(step.operation, Conv):
            rows = sum_rows(step, step.x in over, width)
            if rows:
                held.append(Buffer((sums_of(step.name),), 4 * rows * step.shape[2], i, i))
    return held


def _nbytes(shape: tuple[int, int, int], width: int) -> int:
    channels, height, columns = shape
    return -(-channels * height * columns * width // 4) * 4


def _overwritten(step: Step) -> tuple[str, ...]:
    """Names of the inputs over which the step could write."""
    if not isinstance(step.operation, Conv):
        return step.inputs if isinstance(step.operation, Add) else (step.x,)
    if step.also is not None:
        return (step.also,) if step.also != step.x else ()
    return (step.x,) if step.depthwise else ()


def arranged(held: Sequence[Buffer]) -> Arena:
    """Offsets at which buffers that live at the same time do not overlap.

    Greedy by size, then in orders at random, until the bound is reached that no arrangement can beat: the most that
    lives at one step.
    """
    if not held:
        return Arena({}, 0)
    steps = {buffer.first for buffer in held} | {buffer.last for buffer in held}
    bound = max(sum(b.nbytes for b in held if b.first <= step <= b.last) for step in steps)
    order = sorted(held, key=lambda b: (-b.nbytes, b.first))
    best = _placed(order)
    random = Random(0)
    for _ in range(_TRIES):
        if best.nbytes == bound:
            break
        random.shuffle(order)
        best = min(best, _placed(order), key=lambda arena: arena.nbytes)
    return best


def _placed(order: Sequence[Buffer]) -> Arena:
    """Each buffer in turn at the lowest offset that is free while it lives."""
    taken: list[tuple[int, Buffer]] = []
    for buffer in order:
        at = 0
        for start, other in sorted(taken, key=lambda item: item[0]):
            if other.last < buffer.first or buffer.last < other.first:
                continue
            if start >= at + buffer.nbytes:
                break
            at = max(at, start + other.nbytes)
        taken.append((at, buffer))
    offsets = {name: at for at, buffer in taken for name in buffer.names}
    return Arena(offsets, max(at + buffer.nbytes for at, buffer in taken))
