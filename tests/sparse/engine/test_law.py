"""The law: every kernel equals the masked-dense reference in float64."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from fedtiny.sparse.engine.functions import convolve, normalise, pool
from fedtiny.sparse.engine.layout import empty, plane, planes
from fedtiny.sparse.engine.taps import Shape, Taps

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}


def check_convolution(shape: Shape, N: int, size: tuple[int, int], keep: Tensor, dtype: torch.dtype) -> None:
    """Output and all three gradients against `conv2d` with the masked dense weight, in float64."""
    generator = torch.Generator().manual_seed(0)

    def numbers(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator, dtype=torch.float64)

    taps = Taps.of(shape, keep)
    dense = (numbers(*keep.shape) * keep).requires_grad_()
    x, bias = numbers(N, shape.inputs, *size).requires_grad_(), numbers(shape.outputs).requires_grad_()
    expected = functional.conv2d(x, dense, bias, shape.stride, shape.padding, shape.dilation, shape.groups)
    up = numbers(*expected.shape)
    expected.backward(up)
    mine = [tensor.detach().to(dtype).requires_grad_() for tensor in (x, dense.flatten()[taps.index], bias)]
    got = convolve(mine[0], mine[1], mine[2], taps)
    got.backward(up.to(dtype))
    assert dense.grad is not None
    wanted = [expected, x.grad, dense.grad.flatten()[taps.index], bias.grad]
    for have, want in zip([got, *(tensor.grad for tensor in mine)], wanted, strict=True):
        assert have is not None
        assert want is not None
        scale = max(1.0, float(want.detach().abs().max())) if want.numel() else 1.0
        torch.testing.assert_close(have.double(), want.detach(), rtol=0, atol=TOLERANCE[dtype] * scale)


def mask(shape: Shape, density: float) -> Tensor:
    sizes = (shape.outputs, shape.inputs // shape.groups, *shape.kernel)
    return torch.rand(sizes, generator=torch.Generator().manual_seed(1)) < density


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kernel", "stride", "padding"), list(product([1, 3, 5, 7], [1, 2], [0, 1, 2, 3])))
def test_convolution_equals_the_masked_dense_one(kernel: int, stride: int, padding: int, dtype: torch.dtype) -> None:
    for (groups, density), N in product([(1, 0.0), (1, 0.2), (1, 1.0), (2, 0.3), (4, 0.5)], [1, 5, 16, 65]):
        shape = Shape(8, 4, (kernel, kernel), (stride, stride), (padding, padding), groups=groups)
        if 9 + 2 * padding >= kernel and 6 + 2 * padding >= kernel:
            check_convolution(shape, N, (9, 6), mask(shape, density), dtype)


@settings(deadline=None, max_examples=60)
@given(
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    N=st.integers(1, 65),
    channels=st.sampled_from([(3, 5, 1), (4, 4, 4), (6, 4, 2), (1, 1, 1)]),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
def test_convolution_of_any_shape(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    size: tuple[int, int],
    N: int,
    channels: tuple[int, int, int],
    density: float,
) -> None:
    outputs, inputs, groups = channels
    shape = Shape(outputs, inputs, kernel, stride, padding, dilation, groups)
    if min(shape.out(size)) >= 1:
        check_convolution(shape, N, size, mask(shape, density), torch.float64)


def test_empty_rows_give_the_bias_and_no_gradient() -> None:
    shape = Shape(3, 2, (3, 3), padding=(1, 1))
    keep = torch.zeros(3, 2, 3, 3, dtype=torch.bool)
    keep[1, 0, 1, 1] = True
    x, bias = torch.ones(2, 2, 4, 4), torch.tensor([5.0, 6.0, 7.0])
    y = convolve(x, torch.tensor([2.0]), bias, Taps.of(shape, keep))
    assert y[:, 0].eq(5).all()
    assert y[:, 1].eq(8).all()
    assert y[:, 2].eq(7).all()


def test_depthwise() -> None:
    shape = Shape(16, 16, (3, 3), (2, 2), (1, 1), groups=16)
    check_convolution(shape, 7, (9, 8), mask(shape, 0.3), torch.float32)


def test_threads_do_not_change_a_bit() -> None:
    shape = Shape(8, 8, (3, 3), padding=(1, 1))
    taps, x = Taps.of(shape, mask(shape, 0.3)), torch.randn(5, 8, 6, 6)
    values = torch.randn(len(taps.index))
    results = []
    threads = torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            leaf = values.clone().requires_grad_()
            y = convolve(x, leaf, None, taps)
            y.square().sum().backward()
            assert leaf.grad is not None
            results.append((y.detach(), leaf.grad))
    finally:
        torch.set_num_threads(threads)
    assert all(y.equal(results[0][0]) and g.equal(results[0][1]) for y, g in results)


def test_gradcheck() -> None:
    shape = Shape(4, 4, (3, 3), (2, 2), (1, 1), groups=2)
    taps = Taps.of(shape, mask(shape, 0.5))
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    values = torch.randn(len(taps.index), dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b, c: convolve(a, b, c, taps), (x, values, bias))

    weight, shift = (torch.rand(4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    residual = torch.randn(3, 4, 5, 6, dtype=torch.float64, requires_grad=True)

    def norm(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        mean, var = torch.empty(4, dtype=torch.float64), torch.empty(4, dtype=torch.float64)
        return normalise(a, b, c, d, mean, var, True, 1e-5, math.inf)

    assert torch.autograd.gradcheck(norm, (x, residual, weight, shift))
    assert torch.autograd.gradcheck(lambda a: pool(a, 2, (2, 3)), (x,))


@pytest.mark.parametrize("ceiling", [math.nan, math.inf, 0.7])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("measure", [False, True])
@pytest.mark.parametrize("N", [1, 2, 17, 33, 64])
def test_batch_norm_and_what_follows_equal_pytorch(N: int, measure: bool, residual: bool, ceiling: float) -> None:
    torch.manual_seed(N)
    x, add, up = (torch.randn(N, 3, 5, 4, dtype=torch.float64) for _ in range(3))
    weight, bias = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    mean, var = torch.randn(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64) + 0.5
    theirs = [t.clone().requires_grad_() for t in (x, add, weight, bias)]
    expected = functional.batch_norm(theirs[0], mean.clone(), var.clone(), theirs[2], theirs[3], measure, 0.1, 1e-5)
    expected = expected + theirs[1] if residual else expected
    expected = expected if math.isnan(ceiling) else expected.clamp(0, ceiling)
    expected.backward(up)
    mine = [t.clone().requires_grad_() for t in (x, add, weight, bias)]
    got = normalise(mine[0], mine[1] if residual else None, mine[2], mine[3], mean, var, measure, 1e-5, ceiling)
    got.backward(up)
    torch.testing.assert_close(got, expected)
    for a, b in zip(mine, theirs, strict=True):
        if residual or a is not mine[1]:
            torch.testing.assert_close(a.grad, b.grad)
    if measure:
        torch.testing.assert_close(mean, x.mean((0, 2, 3)))
        torch.testing.assert_close(var, x.var((0, 2, 3), correction=0))


@pytest.mark.parametrize(("H", "W", "ceil"), [(4, 4, False), (5, 7, False), (5, 7, True), (1, 9, True)])
def test_max_pooling_equals_pytorch_ties_included(H: int, W: int, ceil: bool) -> None:
    x = torch.randint(0, 3, (5, 3, H, W)).double()
    theirs, mine = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = functional.max_pool2d(theirs, 2, ceil_mode=ceil)
    got = pool(mine, 2, (expected.shape[2], expected.shape[3]))
    assert got.equal(expected)
    up = torch.randn_like(expected)
    expected.backward(up)
    got.backward(up)
    assert mine.grad is not None
    assert theirs.grad is not None
    assert mine.grad.equal(theirs.grad)


@given(N=st.integers(1, 9), C=st.integers(1, 5), H=st.integers(1, 5), W=st.integers(1, 5))
def test_the_layout_changes_no_number(N: int, C: int, H: int, W: int) -> None:
    x = torch.arange(N * C * H * W, dtype=torch.float32).view(N, C, H, W)
    laid = planes(x)
    assert laid.equal(x)
    assert plane(laid) >= H * W * N
    assert planes(laid) is laid
    assert plane(empty(N, C, H, W, like=x)) >= H * W * N


def test_a_transposed_picture_is_not_in_the_layout() -> None:
    assert plane(torch.zeros(2, 3, 4, 5)) == 0
    assert plane(planes(torch.zeros(2, 3, 4, 4)).transpose(2, 3)) == 0


def test_nan_and_infinity_spread_as_in_pytorch() -> None:
    """A client that diverged must not look well."""
    x = torch.randn(4, 3, 4, 4)
    x[0, 0, 1, 1], x[1, 1, 2, 2] = math.nan, math.inf
    weight, bias, mean, var = torch.ones(3), torch.zeros(3), torch.zeros(3), torch.ones(3)
    expected = functional.relu(functional.batch_norm(x, mean, var, weight, bias, False, 0.1, 1e-5))
    got = normalise(x, None, weight, bias, mean, var, False, 1e-5, math.inf)
    torch.testing.assert_close(got, expected, equal_nan=True)
    got = normalise(x, None, weight, bias, mean.clone(), var.clone(), True, 1e-5, math.inf)
    assert got[:, 0].isnan().all()
    torch.testing.assert_close(pool(x, 2, (2, 2)), functional.max_pool2d(x, 2), equal_nan=True)
    shape = Shape(2, 3, (3, 3), padding=(1, 1))
    taps = Taps.of(shape, None)
    dense = torch.randn(2, 3, 3, 3)
    torch.testing.assert_close(
        convolve(x, dense.flatten()[taps.index], None, taps).isnan(), functional.conv2d(x, dense, padding=1).isnan()
    )


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.ones(2, 1, 4, 4),
            r"takes \(N, 3, H, W\) float32 or float64 on the CPU, none of them 0, got \(2, 1, 4, 4\)",
        ),
        (torch.ones(0, 3, 4, 4), r"none of them 0, got \(0, 3, 4, 4\)"),
        (torch.ones(2, 3, 4, 4, dtype=torch.bfloat16), "got .* torch.bfloat16"),
        (torch.ones(2, 3, 4, 4, dtype=torch.float64), "of one type, got torch.float64 and torch.float32"),
    ],
)
def test_what_does_not_fit_never_reaches_the_kernels(x: Tensor, message: str) -> None:
    taps = Taps.of(Shape(2, 3, (3, 3)), None)
    with pytest.raises(ValueError, match=message):
        convolve(x, torch.ones(len(taps.index)), None, taps)
