"""Activations as a device keeps them from the forward to the backward pass: whole, or the largest alone (FedMef)."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["ActivationLedger", "Activations", "Gate", "Kept", "Nothing", "kept_bytes", "kept_numbers"]


@dataclass(frozen=True, slots=True)
class Activations:
    """What training keeps of one example, in numbers of 4 bytes; the example itself is not counted.

    Attributes:
        numbers: All of it. A tensor counts once, however many layers read it.
        inputs: Of these, the inputs of each convolution, tensor by tensor.
        gates: Numbers of each ReLU or ReLU6, of which its backward pass needs no more than whether they let through.
        rest: What is kept beside inputs of convolutions and what is needed for gates alone.
    """

    numbers: int
    inputs: tuple[int, ...]
    gates: tuple[int, ...]
    rest: int


@dataclass(slots=True)
class ActivationLedger:
    """Notes what the layers of a network will want again in the backward pass, as PyTorch has it.

    Layers with weights and batch norm keep their input, a ReLU its output, a ReLU6 its input, a max-pool its input and
    where each maximum was (8 bytes); a mean keeps nothing; layers not known here are taken to keep their output.
    """

    picture: Tensor
    _tensors: list[Tensor] = field(default_factory=list)  # held, so that no memory is used for two of them
    _numbers: dict[int, int] = field(default_factory=dict)
    _inputs: set[int] = field(default_factory=set)
    _rest: set[int] = field(default_factory=set)
    _gates: list[int] = field(default_factory=list)
    _winners: int = 0

    def note(self, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        """Takes one call of a layer that has no layers inside, of one example."""
        if isinstance(layer, nn.Conv2d):
            self._keep(x, self._inputs)
        elif isinstance(layer, nn.ReLU | nn.ReLU6):
            self._gates.append(y.numel())
            self._keep(y if isinstance(layer, nn.ReLU) else x, set())
        elif isinstance(layer, nn.MaxPool2d):
            self._winners += 2 * y.numel()
            self._keep(x, set())
        elif isinstance(layer, nn.Linear | _NormBase):
            self._keep(x, self._rest)
        elif not isinstance(layer, nn.Identity | nn.Flatten | nn.AdaptiveAvgPool2d | nn.AvgPool2d):
            self._keep(y, self._rest)

    def _keep(self, tensor: Tensor, what: set[int]) -> None:
        place = tensor.data_ptr()
        if place != self.picture.data_ptr():
            self._tensors.append(tensor)
            self._numbers[place] = tensor.numel()
            what.add(place)

    @property
    def activations(self) -> Activations:
        """What was noted."""
        return Activations(
            numbers=sum(self._numbers.values()) + self._winners,
            inputs=tuple(self._numbers[place] for place in sorted(self._inputs, key=list(self._numbers).index)),
            gates=tuple(self._gates),
            rest=sum(self._numbers[place] for place in self._rest) + self._winners,
        )


def kept_numbers(count: int, density: float) -> int:
    """How many of so many numbers are kept: rounded down, at least 1."""
    return max(1, int(density * count + 1e-9))


def kept_bytes(count: int, density: float) -> int:
    """The most bytes that `Kept` takes for so many float32 numbers."""
    kept = kept_numbers(count, density)
    return 4 * kept + min(4 * kept, (count + 7) // 8)


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """The largest magnitudes of a tensor, and where they stand; all others count as 0.

    Attributes:
        shape: The tensor's shape.
        stride: Its strides.
        values: (kept,) what is left, in the tensor's logical order.
        places: (kept,) int32 flat places, or one bit a number in uint8: whichever is smaller.
    """

    shape: torch.Size
    stride: tuple[int, ...]
    values: Tensor
    places: Tensor

    @classmethod
    def of(cls, x: Tensor, density: float) -> Self:
        """The `kept_numbers` of largest magnitude, ties to the lower place. Zeros are never stored."""
        flat = x.detach().flatten()
        magnitudes = flat.abs().cpu().numpy()  # NumPy's partition: on a GPU this costs a way there and back
        chosen = _largest(magnitudes, kept_numbers(len(magnitudes), density))
        count = int(np.count_nonzero(chosen))
        places = np.flatnonzero(chosen).astype(np.int32) if 32 * count <= len(chosen) else np.packbits(chosen)
        return cls(
            x.shape, x.stride(), flat[torch.from_numpy(chosen).to(x.device)], torch.from_numpy(places).to(x.device)
        )

    def restored(self) -> Tensor:
        """The tensor with zeros for what was not kept, as it lay in memory."""
        dense = self.values.new_zeros(self.shape.numel())
        if self.places.dtype == torch.int32:
            dense[self.places.long()] = self.values
        else:
            dense[_bits(self.places, len(dense))] = self.values
        return _laid(dense.view(self.shape), self.stride)


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """Where a ReLU or ReLU6 lets gradients through: one bit a number.

    Attributes:
        shape: Shape of what went through.
        stride: Its strides.
        dtype: Its type.
        bits: One bit a number, in uint8, in logical order.
    """

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    bits: Tensor

    @classmethod
    def of(cls, x: Tensor, ceiling: float) -> Self:
        """Open where x lies between 0 and `ceiling`, both apart."""
        x = x.detach()
        is_open = ((x > 0) & (x < ceiling)).flatten().cpu().numpy()
        return cls(x.shape, x.stride(), x.dtype, torch.from_numpy(np.packbits(is_open)).to(x.device))

    def restored(self) -> Tensor:
        """A stand-in for what went through: 1 where the gate is open, 0 where it is closed."""
        return _laid(_bits(self.bits, self.shape.numel()).view(self.shape).to(self.dtype), self.stride)


@dataclass(frozen=True, slots=True, eq=False)
class Nothing:
    """A tensor of which only the shape will be asked for."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    def restored(self) -> Tensor:
        """Any tensor of the shape."""
        return torch.zeros(self.shape, dtype=self.dtype, device=self.device)


def _largest(magnitudes: NDArray[np.float32], count: int) -> NDArray[np.bool_]:
    threshold = np.partition(magnitudes, len(magnitudes) - count)[len(magnitudes) - count]
    chosen = magnitudes > threshold
    if threshold > 0:
        ties = np.flatnonzero(magnitudes == threshold)[: count - np.count_nonzero(chosen)]
        chosen[ties] = True
    return np.asarray(chosen)


def _bits(packed: Tensor, count: int) -> Tensor:
    """(count,) bool, where the bits are."""
    return torch.from_numpy(np.unpackbits(packed.cpu().numpy(), count=count).view(np.bool_)).to(packed.device)


def _laid(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    return x if x.stride() == stride else torch.empty_strided(x.shape, stride, dtype=x.dtype, device=x.device).copy_(x)
