"""A network of two convolutions, for small pictures and large federations."""

from torch import Tensor, nn

__all__ = ["Small"]


class Small(nn.Module):
    """Two 3x3 convolutions with batch norm, the second with stride 2, then the mean over all places."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        """Builds the layers.

        Args:
            channels: Channels of the input.
            classes: Outputs.
            width: Channels of the first convolution; the second has twice as many.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, stride=2)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float32 -> (B, classes) logits."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.relu(self.bn2(self.conv2(x)))
        logits: Tensor = self.head(self.pool(x).flatten(1))
        return logits
