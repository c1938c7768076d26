"""From a dense network to a sparse one and back, in place."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fedtiny.sparse.engine.fuse import fused
from fedtiny.sparse.engine.layers import BatchNorm2d, Sparse, original_of, shape_of, twin_of
from fedtiny.sparse.engine.taps import Taps
from fedtiny.sparse.mask import Mask

__all__ = ["densify", "sparsify"]


def sparsify(
    module: nn.Module,
    mask: Mask,
    dense_above: Mapping[str, float] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> nn.Module:
    """Turns the layers of `module` into their twins on the engine's layout.

    Args:
        module: A network; its pruned weights are forgotten.
        mask: Weights to keep.
        dense_above: Name of a weight -> the density above which its layer stays dense; 1 for those not named.
        optimizer: Its parameters and their state (momentum) shrink with the weights.

    Returns:
        What to call: `module` itself, or a graph of the same layers under the same names in which batch norms are
        fused with what follows. Names of parameters and buffers, and `state_dict`, are as before. Layers of some
        networks are met in another order in the graph.
    """
    densify(module, optimizer)
    dense_above = dense_above or {}
    sparse = False
    for name, layer in list(module.named_modules()):
        shape, weight = shape_of(layer), f"{name}.weight".removeprefix(".")
        keep = mask.keep.get(weight)
        if shape is None or twin_of(layer) is None:
            continue
        density = 1.0 if keep is None else float(keep.double().mean())
        if density <= dense_above.get(weight, 1.0):
            _thin(layer, Taps.of(shape, keep), keep is not None, optimizer)
            sparse = True
    if not sparse:
        return module
    for layer in module.modules():
        if shape_of(layer) is None:
            layer.__class__ = twin_of(layer) or type(layer)
    return fused(module)


def densify(module: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Undoes `sparsify`, in place: pruned weights and their momentum are exactly 0."""
    for layer in module.modules():
        if isinstance(layer, Sparse):
            _fatten(layer, optimizer)
        elif isinstance(layer, BatchNorm2d):
            vars(layer).pop("measured", None)
        layer.__class__ = original_of(layer)


def _thin(layer: nn.Module, taps: Taps, masked: bool, optimizer: torch.optim.Optimizer | None) -> None:
    twin = twin_of(layer)
    assert twin is not None
    layer.__class__ = twin
    assert isinstance(layer, Sparse)
    layer.taps, layer.dense_shape, layer.watch = taps, layer.weight.shape, None
    if masked:
        _replace(layer, optimizer, layer.gather)


def _fatten(layer: Sparse, optimizer: torch.optim.Optimizer | None) -> None:
    if layer.weight.dim() == 1:
        _replace(layer, optimizer, layer.scatter)
    del layer.taps, layer.dense_shape, layer.watch


def _replace(layer: Sparse, optimizer: torch.optim.Optimizer | None, change: Callable[[Tensor], Tensor]) -> None:
    """Makes a new parameter of the layer's weight, and moves its gradient and its optimizer's state along."""
    old = layer.weight
    new = nn.Parameter(change(old.detach()), requires_grad=old.requires_grad)
    new.grad = None if old.grad is None else change(old.grad)
    layer.weight = new
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
    if old in optimizer.state:
        state = optimizer.state.pop(old)
        optimizer.state[new] = {
            key: change(value) if isinstance(value, Tensor) and value.shape == old.shape else value
            for key, value in state.items()
        }
