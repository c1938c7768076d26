"""A network of two convolutions, for small pictures and large federations."""

from torch import Tensor, nn

from fedtiny.models.normalised import Normalisation, convolution

__all__ = ["Small"]


class Small(nn.Module):
    """Two 3x3 convolutions with batch norm, the second with stride 2, then the mean over all places."""

    def __init__(self, channels: int, classes: int, width: int, normalisation: Normalisation = "batch") -> None:
        """Builds the layers.

        Args:
            channels: Channels of the input.
            classes: Outputs.
            width: Channels of the first convolution; the second has twice as many.
            normalisation: What is normalised: outputs of convolutions over the batch, or their weights.
        """
        super().__init__()
        self.conv1, self.bn1 = convolution(channels, width, 3, normalisation, bias=True, gain=1.0)
        self.conv2, self.bn2 = convolution(width, 2 * width, 3, normalisation, stride=2, bias=True)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float32 -> (B, classes) logits."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.relu(self.bn2(self.conv2(x)))
        logits: Tensor = self.head(self.pool(x).flatten(1))
        return logits
