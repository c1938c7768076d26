"""MobileNetV2 for small images (Sandler et al. 2018): inverted residuals around depthwise convolutions."""

from torch import Tensor, nn

from fedtiny.models.normalised import RELU_GAIN, Normalisation, convolution

__all__ = ["MobileNet"]

_STAGES = (
    # expansion, channels at width 32, blocks, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class _InvertedResidual(nn.Module):
    """Widens, filters each channel by itself, narrows; beside a shortcut where the shape stays."""

    def __init__(
        self, channels_in: int, channels: int, expansion: int, stride: int, normalisation: Normalisation
    ) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.same = stride == 1 and channels_in == channels
        # Linear: no ReLU6 behind it.
        narrow = convolution(inner, channels, 1, normalisation, gain=1.0 if self.same else RELU_GAIN)
        self.body = nn.Sequential(
            *([*convolution(channels_in, inner, 1, normalisation, gain=1.0), nn.ReLU6()] if expansion > 1 else []),
            *convolution(inner, inner, 3, normalisation, stride=stride, groups=inner),
            nn.ReLU6(),
            *narrow,
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.same else y


class MobileNet(nn.Module):
    """MobileNetV2 in its form for 32x32 pixels: 2,236,682 parameters at width 32 with 10 classes."""

    def __init__(self, channels: int, classes: int, width: int, normalisation: Normalisation = "batch") -> None:
        """Builds the network.

        Args:
            channels: Channels of the input.
            classes: Outputs.
            width: Channels of the first convolution; all others grow with it.
            normalisation: What is normalised: outputs of convolutions over the batch, or their weights.
        """
        super().__init__()
        self.stem = nn.Sequential(*convolution(channels, width, 3, normalisation, gain=1.0), nn.ReLU6())
        stages, channels_in = [], width
        for expansion, base, blocks, stride in _STAGES:
            out = max(1, round(base * width / 32))
            stage = []
            for i in range(blocks):
                stage.append(_InvertedResidual(channels_in, out, expansion, stride if i == 0 else 1, normalisation))
                channels_in = out
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        last = max(1, round(1280 * width / 32))
        self.tail = nn.Sequential(*convolution(channels_in, last, 1, normalisation, gain=1.0), nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.tail(self.stages(self.stem(x)))).flatten(1))
        return logits
