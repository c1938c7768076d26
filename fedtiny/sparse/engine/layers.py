"""The twins of PyTorch's layers on the engine's layout.

A layer becomes its twin by a change of class, in place: names, hooks, buffers and every unpruned parameter stay what
they are. Only a masked weight changes: it becomes the vector of its kept entries, so that its gradient and momentum do.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedtiny.sparse.engine.functions import Watch, convolve, normalise, pool
from fedtiny.sparse.engine.taps import Shape, Taps

__all__ = ["BatchNorm2d", "MaxPool2d", "Sparse", "SparseConv2d", "SparseLinear", "original_of", "shape_of", "twin_of"]


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def shape_of(layer: nn.Module) -> Shape | None:
    """The shape of a layer that the engine has kernels for, otherwise None."""
    if isinstance(layer, nn.Linear):
        return Shape(layer.out_features, layer.in_features, (1, 1))
    if not isinstance(layer, nn.Conv2d) or isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        return None
    return Shape(
        layer.out_channels,
        layer.in_channels,
        _pair(layer.kernel_size),
        _pair(layer.stride),
        _pair(layer.padding),
        _pair(layer.dilation),
        layer.groups,
    )


class Sparse(nn.Module):
    """What the two sparse layers share: a weight that is (Z,) if it is masked, and dense otherwise.

    `state_dict` and `load_state_dict` speak of the dense weight, whatever is kept.

    Attributes:
        taps: Where the kept weights reach.
        dense_shape: Shape of the dense weight.
        watch: Is shown the dense weight's gradient in each backward pass, piece by piece; None while nobody looks.
    """

    weight: Tensor
    taps: Taps
    dense_shape: torch.Size
    watch: Watch | None

    @property
    def values(self) -> Tensor:
        """(Z,) the kept weights, in the order of the taps."""
        return self.weight if self.weight.dim() == 1 else self.weight.flatten()[self.taps.index]

    def gather(self, dense: Tensor) -> Tensor:
        """The kept entries of a tensor of the dense weight's shape."""
        return dense.flatten()[self.taps.index]

    def scatter(self, kept: Tensor) -> Tensor:
        """A tensor of the dense weight's shape that holds `kept`, and zeros."""
        dense = kept.new_zeros(self.dense_shape.numel())
        dense[self.taps.index] = kept
        return dense.view(self.dense_shape)

    def _save_to_state_dict(self, destination: dict[str, object], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.weight.dim() == 1:
            destination[prefix + "weight"] = self.scatter(self.weight.detach())

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *args: object) -> None:
        name = prefix + "weight"
        given = state_dict.get(name)
        if self.weight.dim() == 1 and given is not None and given.shape == self.dense_shape:
            state_dict = {**state_dict, name: self.gather(given)}
        super()._load_from_state_dict(state_dict, prefix, *args)


class SparseConv2d(Sparse, nn.Conv2d):
    """`Conv2d` whose work is proportional to its kept weights."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() == 3:  # one picture without a batch
            return self.forward(input[None])[0]
        return convolve(input, self.values, self.bias, self.taps, self.watch)


class SparseLinear(Sparse, nn.Linear):
    """`Linear` whose work is proportional to its kept weights; of (N, features)."""

    def forward(self, input: Tensor) -> Tensor:
        rows = input.reshape(-1, input.shape[-1])
        out = convolve(rows[:, :, None, None], self.values, self.bias, self.taps, self.watch)
        return out[:, :, 0, 0].reshape(*input.shape[:-1], self.out_features)


class BatchNorm2d(nn.BatchNorm2d):
    """`BatchNorm2d` in one pass over the layout, with the addition and the ReLU behind it if it is called with them.

    Attributes:
        measured: (C,) mean and biased variance of the last batch that it normalised by its own statistics.
    """

    measured: tuple[Tensor, Tensor]

    def forward(self, input: Tensor, residual: Tensor | None = None, ceiling: float = math.nan) -> Tensor:
        """Normalises; adds `residual`; cuts to [0, ceiling] unless that is NaN."""
        if residual is not None and residual.shape != input.shape:  # it is broadcast
            x = self._normalised(input, None, math.nan) + residual
            return x if math.isnan(ceiling) else x.clamp(0, ceiling)
        return self._normalised(input, residual, ceiling)

    def _normalised(self, x: Tensor, residual: Tensor | None, ceiling: float) -> Tensor:
        self._check_input_dim(x)
        N, C, H, W = x.shape
        running = self.running_mean is not None and self.running_var is not None
        measure = self.training or not running
        if not measure:
            mean, var = self.running_mean, self.running_var
            assert mean is not None
            assert var is not None
            return normalise(x, residual, self.weight, self.bias, mean, var, False, self.eps, ceiling)
        if N * H * W == 1:
            raise ValueError(f"batch norm needs more than 1 value a channel to train, got an input of {(N, C, H, W)}")
        mean, var = x.new_empty(C), x.new_empty(C)
        y = normalise(x, residual, self.weight, self.bias, mean, var, True, self.eps, ceiling)
        self.measured = mean, var
        if self.training and running and self.track_running_stats:
            self._remember(mean, var * (N * H * W / (N * H * W - 1)))
        return y

    def _remember(self, mean: Tensor, var: Tensor) -> None:
        """Moves the running statistics as PyTorch does: by `momentum`, or to the mean of all batches if it is None."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        with torch.no_grad():
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(var, share)


class MaxPool2d(nn.MaxPool2d):
    """`MaxPool2d` with square windows that do not overlap."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() == 3:
            return self.forward(input[None])[0]
        window, H, W = _pair(self.kernel_size)[0], *input.shape[2:]
        up = window - 1 if self.ceil_mode else 0
        size = (H + up) // window, (W + up) // window
        if not min(size):
            return functional.max_pool2d(input, window, ceil_mode=self.ceil_mode)  # to raise PyTorch's own error
        return pool(input, window, size)


_TWINS: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: SparseConv2d,
    nn.Linear: SparseLinear,
    nn.BatchNorm2d: BatchNorm2d,
    nn.MaxPool2d: MaxPool2d,
}


def twin_of(layer: nn.Module) -> type[nn.Module] | None:
    """The class that `layer` can become; None if there is none, or not with its settings."""
    twin = _TWINS.get(type(layer))  # of this very class: a subclass may do something else
    if isinstance(layer, nn.Conv2d | nn.Linear) and shape_of(layer) is None:
        return None
    if isinstance(layer, nn.MaxPool2d):
        k, s = layer.kernel_size, layer.stride
        plain = isinstance(k, int) and s in (k, None) and layer.padding == 0 and layer.dilation == 1 and k <= 15
        return twin if plain and not layer.return_indices else None
    return twin


def original_of(layer: nn.Module) -> type[nn.Module]:
    """The class that `layer` was before it became a twin; its own if it is none."""
    return next((dense for dense, twin in _TWINS.items() if type(layer) is twin), type(layer))
