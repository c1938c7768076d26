"""Whole filters: structured pruning, told as a mask.

A filter is a row of a layer's weight: all that makes one output channel. Layers are pruned in the order of the forward
pass. A layer first loses the weights of input channels that nobody produces any more, and then keeps the filters of
largest L1 norm of what is left. Which channels are produced is found by a forward pass, so shortcuts and
depthwise convolutions need no rule of their own: where branches are added, a channel lives as long as one of them does.
"""

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights
from fedtiny.sparse.select import top_indices

__all__ = ["filter_mask", "filter_weights", "whole_filters"]


def filter_mask(network: Network, weights: Weights, filters: Mapping[str, int]) -> Mask:
    """The mask of so many filters a layer, without the weights that nothing reaches.

    Args:
        network: The network; it is not changed.
        weights: By their L1 norm filters are chosen; ties go to the lower index.
        filters: Prunable layer -> filters to keep.
    """
    module = copy.deepcopy(network.module).eval()
    keep: dict[str, Tensor] = {}
    with torch.no_grad():
        # All that is kept is 1 and every sum a mean of what is not negative: an output is 0 only if nothing reaches it.
        for name, parameter in module.named_parameters():
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        for name, buffer in module.named_buffers():
            buffer.fill_(1 if name.endswith("running_var") else 0)
        for layer in network.layers:
            child, name = module.get_submodule(layer.name.removesuffix(".weight")), layer.name
            if isinstance(child, nn.Conv2d):
                child.register_forward_hook(_plain)
            if name in filters:
                tell = partial(keep.__setitem__, name)
                child.register_forward_pre_hook(partial(_prune, weights[name], filters[name], tell))
            else:
                child.register_forward_pre_hook(_flatten)
        module(torch.ones(1, *network.input_shape))
    return Mask({name: keep[name] for name in network.prunable})


def whole_filters(network: Network, weights: Weights, density: float) -> Mask:
    """The mask of whole filters, in equal shares of every layer, that is as dense as `density` allows.

    Every layer keeps the same share of its filters, rounded down, at least one; then, those first that rounding took
    most from, layers get one more where the density allows it.

    Args:
        network: The network.
        weights: By their L1 norm filters are chosen.
        density: Kept / prunable weights, in (0, 1]; never exceeded.

    Raises:
        ValueError: Even one filter a layer is more; names the least density that is not.
    """
    outputs = {name: shape[0] for name, shape in network.prunable.items()}
    budget = math.floor(density * sum(math.prod(shape) for shape in network.prunable.values()) + 1e-9)

    def counts(share: float) -> dict[str, int]:
        # 1e-9: 0.07 * 100 is 7.000000000000001 in floats, 0.29 * 100 is 28.999999999999996.
        return {name: max(1, math.floor(share * size + 1e-9)) for name, size in outputs.items()}

    shares = sorted({count / size for size in outputs.values() for count in range(1, size + 1)} | {0.0})
    best = filter_mask(network, weights, counts(0.0))
    if best.kept > budget:
        raise ValueError(
            f"density must keep at least one whole filter in each of the {len(outputs)} prunable layers: it keeps "
            f"{budget} of {best.size} weights; the least density is {best.density:.2g}, or set structured: false"
        )
    low, high = 0, len(shares)  # the best share so far, and one that is too much
    while high - low > 1:
        middle = (low + high) // 2
        mask = filter_mask(network, weights, counts(shares[middle]))
        low, high, best = (middle, high, mask) if mask.kept <= budget else (low, middle, best)
    chosen = counts(shares[low])
    higher = shares[min(low + 1, len(shares) - 1)]
    for name in sorted(outputs, key=lambda name: (chosen[name] - higher * outputs[name], list(outputs).index(name))):
        if chosen[name] == outputs[name]:
            continue
        more = filter_mask(network, weights, chosen | {name: chosen[name] + 1})
        if more.kept <= budget:
            best, chosen = more, chosen | {name: chosen[name] + 1}
    return best


def filter_weights(network: Network) -> int:
    """Weights that one filter comes to at most: its own, and those by which every later layer reads its channel."""
    shapes = list(network.prunable.values())
    reading = [math.prod(shape) // shape[1] for shape in shapes]
    return max(math.prod(shape[1:]) + sum(reading[i + 1 :]) for i, shape in enumerate(shapes))


def _flatten(layer: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Produced or not, 1 or 0: so that no product of small numbers becomes 0."""
    assert isinstance(layer.weight, Tensor)
    layer.weight.fill_(1 / layer.weight[0].numel())
    return (inputs[0] > 0).float()


def _plain(layer: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """What the weights make as they are, where a layer normalises them: equal ones would come to 0."""
    return output if type(layer) is nn.Conv2d else nn.Conv2d.forward(layer, *inputs)


def _prune(
    weight: Tensor, count: int, told: Callable[[Tensor], None], layer: nn.Module, inputs: tuple[Tensor, ...]
) -> Tensor:
    produced = _flatten(layer, inputs)
    alive = produced.transpose(0, 1).flatten(1).any(1)  # (input channels or features,)
    out, inner = weight.shape[:2]
    groups = len(alive) // inner
    reached = alive.view(groups, inner).repeat_interleave(out // groups, 0)
    reached = reached.view(out, inner, *[1] * (weight.dim() - 2)).expand_as(weight)
    keep = torch.zeros_like(weight, dtype=torch.bool)
    rows = top_indices((weight.abs() * reached).flatten(1).sum(1), count)
    keep[rows] = reached[rows]
    told(keep)
    assert isinstance(layer.weight, Tensor)
    layer.weight.masked_fill_(~keep, 0.0)
    return produced
