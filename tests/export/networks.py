"""Networks as training leaves them: pruned, batch norm with statistics and gains of its own."""

import numpy as np
import torch
from torch import nn

from fedtiny.models.normalised import NormalisedConv2d
from fedtiny.models.zoo import AnyModel, MobileNetV2, ResNet8, ResNet18, SmallCnn, Vgg11

__all__ = ["FAMILIES", "pruned"]

FAMILIES: tuple[AnyModel, ...] = (
    SmallCnn(width=5),
    ResNet8(width=4),
    ResNet8(width=3, normalisation="weight"),
    ResNet18(width=2),
    Vgg11(width=3),
    MobileNetV2(width=4),
)


def pruned(model: AnyModel, channels: int, classes: int, density: float, seed: int) -> nn.Module:
    """A network in evaluation mode, of each layer about `density` of the weights kept; at 0.0 none but the head's."""
    module = model.build(channels, classes, seed).eval()
    torch.manual_seed(seed)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            for tensor, low, high in (
                (child.running_mean, -0.5, 0.5),
                (child.running_var, 0.3, 2.0),
                (child.weight.data, -1.0, 1.5),
                (child.bias.data, -0.5, 0.5),
            ):
                assert tensor is not None
                tensor.uniform_(low, high)
        elif isinstance(child, nn.Conv2d):
            keep = torch.rand(child.weight.shape) < density
            child.weight.data.mul_(keep)
            if isinstance(child, NormalisedConv2d):
                child.keep_only(keep)
    return module


def pictures(count: int, shape: tuple[int, int, int], seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Pixels in [0, 1]."""
    return np.random.default_rng(seed).random((count, *shape), np.float32)
