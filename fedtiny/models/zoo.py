"""The networks that a configuration can name."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from fedtiny.models.mobilenet import MobileNet
from fedtiny.models.normalised import Normalisation
from fedtiny.models.resnet import ResNet
from fedtiny.models.small import Small
from fedtiny.models.vgg import Vgg
from fedtiny.value import Value

__all__ = ["AnyModel", "MobileNetV2", "ResNet8", "ResNet18", "SmallCnn", "Vgg11"]

Width = Annotated[int, Field(ge=1)]


class _Model(Value):
    normalisation: Normalisation = "batch"
    """What is normalised: outputs of convolutions over the batch (batch norm), or their weights, filter by filter."""

    def _module(self, channels: int, classes: int) -> nn.Module:
        raise NotImplementedError

    def build(self, channels: int, classes: int, seed: int) -> nn.Module:
        """A freshly initialised network (PyTorch's defaults); equal seeds give equal weights.

        Args:
            channels: Channels of the input.
            classes: Outputs.
            seed: Seed of the initial weights; the global generator is left as it was.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._module(channels, classes)


class SmallCnn(_Model):
    """Two convolutions, 19,658 parameters at width 32 with one input channel and 10 classes: for large federations."""

    name: Literal["small_cnn"] = "small_cnn"
    width: Width = 32
    """Channels of the first convolution; the second has twice as many."""

    def _module(self, channels: int, classes: int) -> nn.Module:
        return Small(channels, classes, self.width, self.normalisation)


class ResNet8(_Model):
    """Three stages of one residual block: for images of 8x8 to 32x32 pixels."""

    name: Literal["resnet8"] = "resnet8"
    width: Width = 16
    """Channels of the first stage; the others have 2 and 4 times as many."""

    def _module(self, channels: int, classes: int) -> nn.Module:
        return ResNet(channels, classes, self.width, (1, 1, 1), self.normalisation)


class ResNet18(_Model):
    """ResNet-18 in its form for 32x32 pixels: 11,173,962 parameters at width 64 with 10 classes."""

    name: Literal["resnet18"] = "resnet18"
    width: Width = 64
    """Channels of the first stage; the others have 2, 4 and 8 times as many."""

    def _module(self, channels: int, classes: int) -> nn.Module:
        return ResNet(channels, classes, self.width, (2, 2, 2, 2), self.normalisation)


class Vgg11(_Model):
    """VGG-11 with batch norm for 32x32 pixels and one linear layer."""

    name: Literal["vgg11"] = "vgg11"
    width: Width = 64
    """Channels of the first convolution; the others have 2, 4, 4, 8, 8, 8 and 8 times as many."""

    def _module(self, channels: int, classes: int) -> nn.Module:
        stages = ((1, "M", 2, "M"), (4, 4, "M"), (8, 8, "M"), (8, 8, "M"))
        return Vgg(channels, classes, self.width, stages, self.normalisation)


class MobileNetV2(_Model):
    """MobileNetV2 in its form for 32x32 pixels: 2,236,682 parameters at width 32 with 10 classes."""

    name: Literal["mobilenetv2"] = "mobilenetv2"
    width: Width = 32
    """Channels of the first convolution; all others grow with it."""

    def _module(self, channels: int, classes: int) -> nn.Module:
        return MobileNet(channels, classes, self.width, self.normalisation)


AnyModel = Annotated[SmallCnn | ResNet8 | ResNet18 | Vgg11 | MobileNetV2, Field(discriminator="name")]
