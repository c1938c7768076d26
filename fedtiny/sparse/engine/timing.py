"""Seconds of single layers, dense and sparse, where they stand in a network."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from fedtiny.sparse.engine.functions import convolve
from fedtiny.sparse.engine.layers import shape_of, twin_of
from fedtiny.sparse.engine.layout import planes
from fedtiny.sparse.engine.measure import random_mask
from fedtiny.sparse.engine.taps import Shape, Taps

__all__ = ["Site", "seconds_of", "sites"]


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A layer that the engine has kernels for, and what it sees.

    Attributes:
        name: Name of its weight.
        layer: The dense layer.
        shape: Its shape.
        x: (N, C, H, W) an input in the engine's layout; it wants a gradient if the layer is not the first.
    """

    name: str
    layer: nn.Module
    shape: Shape
    x: Tensor

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for sites that take equally long."""
        return type(self.layer), self.shape, self.x.shape, self.x.requires_grad

    def dense(self, among_sparse: bool, backward: bool = True) -> Callable[[], None]:
        """Gives what makes one pass of the dense layer.

        Args:
            among_sparse: Whether it stands between sparse layers, with a change of layout before and behind it.
            backward: Whether to go backward too.
        """
        weight, x = self.layer.weight, self.x
        assert isinstance(weight, Tensor)
        if not among_sparse:
            x = x.detach().contiguous().requires_grad_(x.requires_grad)
        x = x if isinstance(self.layer, nn.Conv2d) else x.flatten(1)

        def call() -> None:
            y = self.layer(x)
            if among_sparse:
                y = planes(y if y.dim() == 4 else y[:, :, None, None])
            if backward:
                _back(y, x, weight)

        return call

    def sparse(self, density: float, backward: bool = True) -> Callable[[], None]:
        """Gives what makes one pass of the sparse layer, with a random mask."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        taps = Taps.of(self.shape, random_mask({"": tuple(weight.shape)}, density).keep[""])
        values = weight.detach().flatten()[taps.index].requires_grad_()

        def call() -> None:
            y = convolve(self.x, values, None, taps)
            if backward:
                _back(y, self.x, values)

        return call


def _back(y: Tensor, *leaves: Tensor) -> None:
    torch.autograd.grad(y, [leaf for leaf in leaves if leaf.requires_grad], torch.ones_like(y))


def sites(module: nn.Module, shape: tuple[int, int, int], batch: int) -> list[Site]:
    """The sites of a network for a batch of pictures (C, H, W), from input to output."""
    found: list[Site] = []

    def look(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        what = shape_of(layer)
        assert what is not None
        x = torch.ones(1).expand(batch, *inputs[0].shape[1:])
        x = planes(x if isinstance(layer, nn.Conv2d) else x.reshape(-1, x.shape[-1])[:, :, None, None])
        found.append(Site(f"{name}.weight", layer, what, x.requires_grad_(bool(found))))

    fitting = [(n, x) for n, x in module.named_modules() if shape_of(x) is not None and twin_of(x) is not None]
    handles = [layer.register_forward_pre_hook(partial(look, name)) for name, layer in fitting]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, *shape))
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return found


def seconds_of(call: Callable[[], object], seconds: float = 0.02) -> float:
    """Median seconds of a call: three times or more, for about `seconds` in all, after a warm-up."""
    call()
    told: list[float] = []
    end = time.perf_counter() + seconds
    while len(told) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        told.append(time.perf_counter() - start)
    return median(told)
