"""The engine's operations, for autograd: each calls kernels.cpp and says what its gradients are."""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from fedtiny.sparse.engine.kernels import kernels
from fedtiny.sparse.engine.layout import empty, plane, planes
from fedtiny.sparse.engine.taps import Shape, Taps

__all__ = ["Watch", "convolve", "normalise", "pool"]

Watch = Callable[[Tensor, int], None]
"""Is handed a dense weight's gradient piece by piece: (entries,) of it, and the flat place of the first."""


class _Context(Protocol):
    """What autograd gives to both passes, typed."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...


class _ConvolveContext(_Context, Protocol):
    taps: Taps
    watch: Watch | None


class _NormaliseContext(_Context, Protocol):
    how: tuple[bool, float, float]


class _PoolContext(_Context, Protocol):
    how: tuple[int, torch.Size]


def _at(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _step(x: Tensor | None) -> int:
    return 0 if x is None else plane(x)


def _check(x: Tensor, channels: int, like: Tensor | None) -> None:
    """Kernels read memory by address: what does not fit must not reach them."""
    fits = x.dim() == 4 and x.shape[1] == channels and x.numel() > 0 and x.device.type == "cpu"
    if not fits or x.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"the sparse engine takes (N, {channels}, H, W) float32 or float64 on the CPU, none of them 0, "
            f"got {tuple(x.shape)} {x.dtype} on {x.device}"
        )
    if like is not None and like.dtype != x.dtype:
        raise ValueError(f"input and weights must be of one type, got {x.dtype} and {like.dtype}")


class _Convolve(Function):
    @staticmethod
    def forward(
        ctx: _ConvolveContext, x: Tensor, values: Tensor, bias: Tensor | None, taps: Taps, watch: Watch | None
    ) -> Tensor:
        _check(x, taps.shape.inputs, values)
        x, values = planes(x), values.contiguous()
        N, _, H, W = x.shape
        y = empty(N, taps.shape.outputs, *taps.shape.out((H, W)), like=x)
        walk = taps.forward((H, W), plane(x) // N, plane(y) // N)
        kernels(x.dtype).product(
            walk.grid(N), _at(x), _at(values), _at(bias), _at(y), torch.get_num_threads()
        )  # fmt: skip
        ctx.save_for_backward(x, values)
        ctx.taps, ctx.watch = taps, watch
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: _ConvolveContext, up: Tensor) -> tuple[Tensor | None, ...]:
        x, values = ctx.saved_tensors
        taps, up = ctx.taps, planes(up)
        N, _, H, W = x.shape
        threads, library = torch.get_num_threads(), kernels(x.dtype)
        grad_x = grad_values = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = empty(*x.shape, like=x)
            for walk in taps.backward((H, W), plane(grad_x) // N, plane(up) // N):
                turned = values if walk.order is None else values.index_select(0, walk.order)
                library.product(walk.grid(N), _at(up), _at(turned), None, _at(grad_x), threads)
        if ctx.needs_input_grad[1]:
            grad_values = _tap_product(taps, x, up)
        if ctx.needs_input_grad[2]:
            grad_bias = up.sum((0, 2, 3))
        if ctx.watch is not None:
            _show(ctx.watch, taps.shape, x, up)
        return grad_x, grad_values, grad_bias, None, None


def _tap_product(taps: Taps, x: Tensor, up: Tensor) -> Tensor:
    """(Z,) gradient of each tap's weight."""
    N, _, H, W = x.shape
    grad = x.new_empty(len(taps.index))
    walk = taps.forward((H, W), plane(x) // N, plane(up) // N)
    kernels(x.dtype).tap_product(walk.grid(N), _at(x), _at(up), _at(grad), torch.get_num_threads())
    return grad


def _show(watch: Watch, shape: Shape, x: Tensor, up: Tensor) -> None:
    """Computes the dense gradient one output channel at a time: no more of it is ever alive."""
    outputs, inputs = shape.outputs // shape.groups, shape.inputs // shape.groups
    taps = Taps.of(Shape(1, inputs, shape.kernel, shape.stride, shape.padding, shape.dilation), None)
    back = taps.index.argsort()
    for o in range(shape.outputs):
        begin = o // outputs * inputs
        grad = _tap_product(taps, x[:, begin : begin + inputs], up[:, o : o + 1])
        watch(grad[back], o * len(back))


def convolve(x: Tensor, values: Tensor, bias: Tensor | None, taps: Taps, watch: Watch | None = None) -> Tensor:
    """A convolution with the kept weights alone.

    Args:
        x: (N, inputs, H, W) float32 or float64.
        values: (Z,) weights of the taps.
        bias: (outputs,), or None.
        taps: Where the kept weights reach.
        watch: Is shown the dense weight's gradient in the backward pass.

    Returns:
        (N, outputs, H', W'), in the layout.
    """
    return torch.as_tensor(_Convolve.apply(x, values, bias, taps, watch))


class _Normalise(Function):
    @staticmethod
    def forward(
        ctx: _NormaliseContext,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        measure: bool,
        eps: float,
        ceiling: float,
    ) -> Tensor:
        _check(x, len(mean), mean)
        assert residual is None or (residual.shape, residual.dtype) == (x.shape, x.dtype)
        x = planes(x)
        residual = None if residual is None else planes(residual)
        N, C, H, W = x.shape
        y = empty(N, C, H, W, like=x)
        kernels(x.dtype).norm(
            _at(x), plane(x), _at(residual), _step(residual), _at(y), plane(y), C, H * W * N, _at(weight),
            _at(bias), _at(mean), _at(var), measure, eps, ceiling, torch.get_num_threads(),
        )  # fmt: skip
        # Without a residual, the kernel knows from x where the ceiling or 0 was reached.
        ctx.save_for_backward(x, None if residual is None else y, weight, bias, mean, var)
        ctx.how = measure, eps, ceiling
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: _NormaliseContext, up: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight, bias, mean, var = ctx.saved_tensors
        (measure, eps, ceiling), up = ctx.how, planes(up)
        N, C, H, W = x.shape
        grad = empty(N, C, H, W, like=x)
        passed = empty(N, C, H, W, like=x) if ctx.needs_input_grad[1] and not math.isnan(ceiling) else None
        grad_weight, grad_bias = x.new_empty(C), x.new_empty(C)
        kernels(x.dtype).norm_gradients(
            _at(x), plane(x), _at(y), _step(y), _at(up), plane(up), _at(passed), _step(passed), _at(grad), plane(grad),
            C, H * W * N, _at(weight), _at(bias), _at(mean), _at(var), _at(grad_weight), _at(grad_bias),
            measure, eps, ceiling, torch.get_num_threads(),
        )  # fmt: skip
        grad_residual = (up if passed is None else passed) if ctx.needs_input_grad[1] else None
        affine = (grad_weight, grad_bias) if weight is not None else (None, None)
        return grad, grad_residual, *affine, None, None, None, None, None


def normalise(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    measure: bool,
    eps: float,
    ceiling: float = math.nan,
) -> Tensor:
    """Batch norm (Ioffe and Szegedy 2015), plus a residual, cut to [0, ceiling].

    Args:
        x: (N, C, H, W).
        residual: (N, C, H, W) added before the cut, or None.
        weight: (C,) scale, or None for 1.
        bias: (C,) shift, or None for 0.
        mean: (C,) mean to use; with `measure`, is overwritten with that of the batch.
        var: (C,) biased variance; the same.
        measure: Whether to use the batch's own statistics.
        eps: Added to the variance.
        ceiling: infinity for a ReLU, 6 for a ReLU6, NaN for no cut.
    """
    return torch.as_tensor(_Normalise.apply(x, residual, weight, bias, mean, var, measure, eps, ceiling))


class _Pool(Function):
    @staticmethod
    def forward(ctx: _PoolContext, x: Tensor, window: int, size: tuple[int, int]) -> Tensor:
        _check(x, x.shape[1], None)
        x = planes(x)
        N, C, H, W = x.shape
        y, winner = empty(N, C, *size, like=x), x.new_empty(C * size[0] * size[1] * N, dtype=torch.uint8)
        kernels(x.dtype).pool(_at(x), plane(x), _at(y), plane(y), _at(winner), C, H, W, *size, N, window)
        ctx.save_for_backward(winner)
        ctx.how = window, x.shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: _PoolContext, up: Tensor) -> tuple[Tensor | None, ...]:
        (winner,), up, (window, shape) = ctx.saved_tensors, planes(up), ctx.how
        N, C, H, W = shape
        grad = empty(N, C, H, W, like=up)
        if up.shape[2] * window < H or up.shape[3] * window < W:
            grad.zero_()
        kernels(up.dtype).pool_gradient(
            _at(up), plane(up), _at(winner), _at(grad), plane(grad), C, H, W, *up.shape[2:], N, window
        )
        return grad, None, None


def pool(x: Tensor, window: int, size: tuple[int, int]) -> Tensor:
    """Max-pooling with windows of `window` x `window` pixels that do not overlap, to `size` = (H', W')."""
    return torch.as_tensor(_Pool.apply(x, window, size))
