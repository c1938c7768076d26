"""Where a layer's kept weights reach: the topology of a mask, computed once and used in every step."""

from collections.abc import Sequence
from ctypes import addressof
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedtiny.sparse.engine.kernels import Grid

__all__ = ["Shape", "Sweep", "Taps"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shape:
    """A convolution's shape; pairs are (height, width). A linear layer is one of 1x1 on one pixel."""

    outputs: int
    inputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def out(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) of the output for an input of (H, W)."""
        height, width = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        )
        return height, width


class Sweep:
    """One walk of a kernel over pixels and taps, ready to be called.

    Attributes:
        order: (Z,) int32; the walk's t-th tap is the layer's tap `order[t]`. None if they are the same.
    """

    __slots__ = ("_fields", "_grids", "_held", "order")

    def __init__(self, order: Tensor | None, fields: Sequence[int], held: Sequence[Tensor]) -> None:
        """Takes the fields of a `Grid` after its lanes, and the arrays that it ends with."""
        self.order, self._fields, self._held = order, fields, held
        self._grids: dict[int, Grid] = {}

    def grid(self, lanes: int) -> int:
        """Address of the `Grid` for a batch of `lanes` examples; valid as long as this object."""
        if lanes not in self._grids:
            self._grids[lanes] = Grid(lanes, *self._fields, *(x.data_ptr() for x in self._held))
        return addressof(self._grids[lanes])


@dataclass(slots=True, eq=False)
class Taps:
    """The kept weights of one layer, ordered by output channel, then row and column in the kernel, then input channel.

    Attributes:
        shape: The layer's shape.
        index: (Z,) int64: the flat place of each tap in the dense weight.
    """

    shape: Shape
    index: Tensor
    _sweeps: dict[tuple[object, ...], list[Sweep]] = field(default_factory=dict)

    def __reduce__(self) -> tuple[object, ...]:
        """Copies and pickles leave the walks behind: they hold addresses, and are made again when they are needed."""
        return type(self), (self.shape, self.index)

    @classmethod
    def of(cls, shape: Shape, keep: Tensor | None) -> Self:
        """The taps of a mask, a bool tensor of the weight's own shape; None keeps all."""
        dense = (shape.outputs, shape.inputs // shape.groups, *shape.kernel)
        o, kh, kw, c = (torch.ones(dense) if keep is None else keep.view(dense)).permute(0, 2, 3, 1).nonzero().unbind(1)
        return cls(shape, ((o * dense[1] + c) * dense[2] + kh) * dense[3] + kw)

    def forward(self, size: tuple[int, int], in_plane: int, out_plane: int) -> Sweep:
        """The walk that makes the output; also that of the weights' gradient.

        Args:
            size: (H, W) of the input.
            in_plane: Pixels from one input channel to the next.
            out_plane: The same of the output.
        """
        key = ("forward", size, in_plane, out_plane)
        if key not in self._sweeps:
            shape, (o, c, kh, kw) = self.shape, self._coordinates()
            shifts = [np.arange(k) * d - p for k, d, p in zip(shape.kernel, shape.dilation, shape.padding, strict=True)]
            out = shape.out(size)
            target = (out_plane, out[1], 1, 0)
            walk = _sweep((o, c, kh, kw), None, shape.outputs, shifts, shape.stride, size, out, in_plane, target)
            self._sweeps[key] = [walk]
        return self._sweeps[key][0]

    def backward(self, size: tuple[int, int], in_plane: int, up_plane: int) -> list[Sweep]:
        """The walks that together make the input's gradient: the taps turned round, one walk a phase of the stride.

        Args:
            size: (H, W) of the layer's input.
            in_plane: Pixels from one channel of the input's gradient to the next.
            up_plane: The same of the upstream gradient.
        """
        key = ("backward", size, in_plane, up_plane)
        if key not in self._sweeps:
            shape, (o, c, kh, kw) = self.shape, self._coordinates()
            out, (sh, sw) = shape.out(size), shape.stride
            walks = []
            for fh in range(min(sh, size[0])):
                for fw in range(min(sw, size[1])):
                    # Input pixel i * s + f is seen by tap k from output pixel i + (f + padding - k * dilation) / s.
                    up = fh + shape.padding[0] - kh * shape.dilation[0]
                    left = fw + shape.padding[1] - kw * shape.dilation[1]
                    mine = np.flatnonzero((up % sh == 0) & (left % sw == 0))
                    rows, a = np.unique(up[mine] // sh, return_inverse=True)
                    columns, b = np.unique(left[mine] // sw, return_inverse=True)
                    taps, phase = (c[mine], o[mine], a, b), (-((fh - size[0]) // sh), -((fw - size[1]) // sw))
                    target = (in_plane, size[1] * sh, sw, fh * size[1] + fw)
                    walks.append(
                        _sweep(taps, mine, shape.inputs, [rows, columns], (1, 1), out, phase, up_plane, target)
                    )
            self._sweeps[key] = walks
        return self._sweeps[key]

    def _coordinates(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Output channel, input channel, row and column in the kernel of each tap."""
        shape = self.shape
        each = shape.inputs // shape.groups
        o, c, kh, kw = np.unravel_index(self.index.numpy(), (shape.outputs, each, *shape.kernel))
        return o, c + o // (shape.outputs // shape.groups) * each, kh, kw


def _sweep(
    taps: tuple[Ints, Ints, Ints, Ints],
    places: Ints | None,
    channels: int,
    shifts: Sequence[Ints],
    steps: tuple[int, int],
    size: tuple[int, int],
    out: tuple[int, int],
    plane: int,
    target: tuple[int, int, int, int],
) -> Sweep:
    """Sorts taps, and finds which of them stay inside where.

    Args:
        taps: Channel written, channel read, number of the row shift, number of the column shift.
        places: The layer's tap that each is; None where all are there and sorted.
        channels: Channels written.
        shifts: The row shifts and the column shifts, ascending, in pixels of the channel read.
        steps: How far the channel read moves from one row, one column, of the walk to the next.
        size: (H, W) of a channel read.
        out: (H, W) of the walk.
        plane: Pixels from one channel read to the next.
        target: Of the channel written, in pixels: plane, row, column, first pixel.
    """
    o, c, a, b = taps
    A, B = (max(1, len(shift)) for shift in shifts)
    cell = (o * A + a) * B + b
    order = np.argsort(cell, kind="stable")
    first = np.zeros(channels * A * B + 1, dtype=np.int32)
    np.cumsum(np.bincount(cell, minlength=channels * A * B), out=first[1:])
    offset = (c * plane + shifts[0][a] * size[1] + shifts[1][b])[order] if len(o) else np.zeros(0)
    rows = np.array([_inside(i * steps[0] + shifts[0], size[0]) for i in range(out[0])])
    columns = np.array([_inside(j * steps[1] + shifts[1], size[1]) for j in range(out[1])])
    side_by_side = steps[1] == 1 and target[2] == 1
    cuts = [j for j in range(1, out[1]) if not side_by_side or (columns[j] != columns[j - 1]).any()]
    run = np.array([(j0, j1, *columns[j0]) for j0, j1 in zip([0, *cuts], [*cuts, out[1]], strict=True)])
    wide = np.array([_inside(np.arange(out[1]) * steps[1] + shift, size[1]) for shift in shifts[1]] or [(0, 0)])
    held = [torch.tensor(x, dtype=torch.int32) for x in (first, offset, rows, run, wide)]
    fields = (channels, *out, steps[0] * size[1], steps[1], *target, A, B, len(run))
    return Sweep(None if places is None else torch.tensor(places[order], dtype=torch.int32), fields, held)


def _inside(places: Ints, size: int) -> tuple[int, int]:
    """The range of entries of `places`, which ascend, that lie in [0, size)."""
    inside = np.flatnonzero((places >= 0) & (places < size))
    return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
