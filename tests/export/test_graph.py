"""Shapes of a graph's operations are those of PyTorch's."""

import itertools

import torch
from torch.nn import functional

from fedtiny.export.graph import MaxPool


def ours(size: int, kernel: int, stride: int) -> int | None:
    try:
        return MaxPool(kernel, stride).shape([(1, size, size)])[1]
    except ValueError:
        return None


def theirs(size: int, kernel: int, stride: int) -> int | None:
    try:
        return functional.max_pool2d(torch.zeros(1, size, size), kernel, stride, ceil_mode=True).shape[1]
    except RuntimeError:
        return None


def test_a_pool_has_the_windows_that_pytorch_has_or_none_where_it_has_none() -> None:
    for size, kernel, stride in itertools.product(range(1, 9), range(1, 6), range(1, 6)):
        assert ours(size, kernel, stride) == theirs(size, kernel, stride), (size, kernel, stride)
