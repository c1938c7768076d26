"""Residual networks for small images (He et al. 2016): a 3x3 stem without pooling, 1x1 projection shortcuts."""

from collections.abc import Sequence

from torch import Tensor, nn

from fedtiny.models.normalised import Normalisation, convolution

__all__ = ["ResNet"]


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is projected where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int, normalisation: Normalisation) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(channels_in, channels, 3, normalisation, stride=stride)
        self.relu1 = nn.ReLU()
        self.conv2, self.bn2 = convolution(channels, channels, 3, normalisation, gain=1.0)
        self.relu2 = nn.ReLU()
        same = stride == 1 and channels_in == channels
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(*convolution(channels_in, channels, 1, normalisation, stride=stride))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu2(y + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """Stages of residual blocks; each stage after the first halves the image and doubles the channels.

    ResNet-18 is depths (2, 2, 2, 2) at width 64; ResNet-8 is depths (1, 1, 1).
    """

    def __init__(
        self, channels: int, classes: int, width: int, depths: Sequence[int], normalisation: Normalisation = "batch"
    ) -> None:
        """Builds the network.

        Args:
            channels: Channels of the input.
            classes: Outputs.
            width: Channels of the first stage.
            depths: Residual blocks in each stage.
            normalisation: What is normalised: outputs of convolutions over the batch, or their weights.
        """
        super().__init__()
        self.stem = nn.Sequential(*convolution(channels, width, 3, normalisation, gain=1.0), nn.ReLU())
        stages, channels_in = [], width
        for i, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                blocks.append(_Residual(channels_in, width * 2**i, 2 if i and not j else 1, normalisation))
                channels_in = width * 2**i
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.stages(self.stem(x))).flatten(1))
        return logits
