"""VGG with batch norm for small images (Simonyan and Zisserman 2015), with one linear layer as its head."""

from collections.abc import Sequence

from torch import Tensor, nn

from fedtiny.models.normalised import RELU_GAIN, Normalisation, convolution

__all__ = ["Vgg"]


class Vgg(nn.Module):
    """Stages of 3x3 convolutions with batch norm.

    VGG-11 is stages ((1, 'M', 2, 'M'), (4, 4, 'M'), (8, 8, 'M'), (8, 8, 'M')) at width 64: pairs of layers, the
    blocks that FedTiny adjusts together.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        width: int,
        stages: Sequence[Sequence[int | str]],
        normalisation: Normalisation = "batch",
    ) -> None:
        """Builds the network.

        Args:
            channels: Channels of the input.
            classes: Outputs.
            width: Channels of the first convolution.
            stages: Per stage, convolutions as multiples of `width` and 'M' for a 2x2 max-pool.
            normalisation: What is normalised: outputs of convolutions over the batch, or their weights.
        """
        super().__init__()
        built, gain = [], 1.0
        for stage in stages:
            layers: list[nn.Module] = []
            for item in stage:
                if isinstance(item, str):
                    # ceil_mode lets images smaller than 32x32 through; at 32x32 nothing changes.
                    layers.append(nn.MaxPool2d(2, ceil_mode=True))
                    continue
                out = item * width
                layers += [*convolution(channels, out, 3, normalisation, gain=gain), nn.ReLU()]
                channels, gain = out, RELU_GAIN
            built.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*built)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.stages(x)).flatten(1))
        return logits
