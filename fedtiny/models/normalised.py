"""Convolutions whose weights are normalised instead of their outputs: they need no batch norm.

Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019; in this form
Brock, De and Smith, "Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets", ICLR
2021. Of each output filter w of fan_in entries, the convolution computes with

    w' = gain * (w - mean(w)) / sqrt(max(var(w) * fan_in, 1e-4))

at the kept places, and with exactly 0 at pruned ones. The mean and the (biased) variance are over the whole filter,
zeros of pruned places included, so a filter's length is `gain` however few of its weights are kept.
"""

import math
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn import functional

__all__ = ["RELU_GAIN", "Normalisation", "NormalisedConv2d", "convolution", "normalise"]

Normalisation = Literal["batch", "weight"]

RELU_GAIN = math.sqrt(2 / (1 - 1 / math.pi))
"""The gain that gives a normal number its variance back once it went through a ReLU and a zero-mean filter."""

_LEAST = 1e-4


class _Context(Protocol):
    """What autograd gives to both passes, typed."""

    saved_tensors: tuple[Tensor, Tensor, Tensor | None]

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...


def _parts(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(O, F) the filters without their means, (O, 1) fan_in times their variances, (O, 1) 1 / the root of these."""
    flat = weight.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    squares = (centred * centred).sum(1, keepdim=True)
    return centred, squares, squares.clamp(min=_LEAST).rsqrt()


class _Normalise(Function):
    @staticmethod
    def forward(ctx: _Context, weight: Tensor, gain: Tensor, keep: Tensor | None) -> Tensor:
        centred, _, scale = _parts(weight)
        ctx.save_for_backward(weight, gain, keep)
        normalised = (centred * scale * gain[:, None]).view_as(weight)
        return normalised if keep is None else normalised.masked_fill_(~keep, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, up: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, gain, keep = ctx.saved_tensors
        centred, squares, scale = _parts(weight)
        unit, whole = centred * scale, up.flatten(1)
        kept = whole if keep is None else whole * keep.flatten(1)
        # Below the least variance the denominator is constant.
        turns = (squares > _LEAST).to(up.dtype)
        grad = kept - kept.mean(1, keepdim=True) - turns * unit * (kept * unit).sum(1, keepdim=True)
        if keep is not None:
            # What a pruned weight's gradient is if it alone were kept too: it has an output of its own then.
            own = whole * (1 - 1 / unit.shape[1] - turns * unit * unit)
            grad = torch.where(keep.flatten(1), grad, grad + own)
        return (grad * scale * gain[:, None]).view_as(weight), (kept * unit).sum(1), None


def normalise(weight: Tensor, gain: Tensor, keep: Tensor | None) -> Tensor:
    """The weights to compute with.

    The gradient at a kept place is the true one. At a pruned place it is what it would be were that place kept too,
    all others as they are: what growth has to know, though moving the weight alone would change nothing.

    Args:
        weight: (outputs, ...) float32 or float64, 0 at pruned places.
        gain: (outputs,) of the same type.
        keep: Bool tensor of the weight's shape; None keeps all.
    """
    return torch.as_tensor(_Normalise.apply(weight, gain, keep))


class NormalisedConv2d(nn.Conv2d):
    """A convolution with normalised weights, a gain and a bias for each output channel.

    Which weights are pruned cannot be read off their values: a grown weight starts at 0. So it has to be told.

    Attributes:
        gain: (outputs,) the length of each filter.
        keep: Bool tensor of the weight's shape; None keeps all. It is no part of the state dictionary.
    """

    keep: Tensor | None

    def __init__(
        self, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, gain: float = 1.0
    ) -> None:
        """Builds a convolution that keeps the size of the picture but for its stride.

        Args:
            channels_in: Channels of the input.
            channels: Channels of the output.
            kernel: Height and width, odd.
            stride: Pixels of the input from one of the output to the next.
            groups: As in `Conv2d`.
            gain: What all gains start from.
        """
        super().__init__(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.gain = nn.Parameter(torch.full((channels,), gain))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("keep", None, persistent=False)

    def keep_only(self, keep: Tensor | None) -> None:
        """Takes the mask of its weights: a bool tensor of their shape, not copied on one device; None keeps all."""
        self.keep = None if keep is None else keep.to(self.weight.device)

    def forward(self, input: Tensor) -> Tensor:
        weight = normalise(self.weight, self.gain, self.keep)
        return functional.conv2d(input, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def convolution(
    channels_in: int,
    channels: int,
    kernel: int,
    normalisation: Normalisation,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    gain: float = RELU_GAIN,
) -> tuple[nn.Module, nn.Module]:
    """A convolution, and what normalises its output: nothing where its weights are normalised.

    Args:
        channels_in: Channels of the input.
        channels: Channels of the output.
        kernel: Height and width, odd.
        normalisation: What is normalised.
        stride: Pixels of the input from one of the output to the next.
        groups: As in `Conv2d`.
        bias: Whether a convolution before a batch norm has a bias too.
        gain: What the gains of normalised weights start from: `RELU_GAIN` behind a ReLU, 1 elsewhere and at the end of
            a branch that is added to another, so that sums do not grow from block to block.
    """
    if normalisation == "weight":
        return NormalisedConv2d(channels_in, channels, kernel, stride, groups, gain), nn.Identity()
    layer = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
    return layer, nn.BatchNorm2d(channels)
