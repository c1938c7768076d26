"""Index arrays into seeded batches, straight from the arrays that all clients of a machine share."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedtiny.data.datasets import Images

__all__ = ["Batches", "scaled"]

_LITTLE = 1_000_000
"""Pixels, 4 MB of them."""


def scaled(images: NDArray[np.uint8], data: Images) -> Tensor:
    """Pixels as the network wants them: (N, C, H, W) float32, (pixel / 255 - mean) / std."""
    mean = torch.tensor(data.mean).view(1, -1, 1, 1)
    std = torch.tensor(data.std).view(1, -1, 1, 1)
    return torch.from_numpy(np.array(images)).float().div_(255).sub_(mean).div_(std)


class Batches:
    """Batches of some examples: shuffled anew each epoch, or in order.

    The short batch that is left over comes first, so that the last one, whose gradient a probe may ask for, is
    full. A batch of one example is never made (batch norm has no variance of it): it joins the next batch.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        indices: NDArray[np.int64],
        batch: int,
        data: Images,
        rng: np.random.Generator | None = None,
    ) -> None:
        """Names the examples; nothing is read yet.

        Args:
            images: (N, C, H, W) uint8, shared and never written.
            labels: (N,) int64.
            indices: (n,) the examples to use.
            batch: Examples a batch.
            data: How pixels are scaled and, with `rng`, varied.
            rng: Stream of the shuffling; None keeps the order and does not vary the images.
        """
        self._images, self._labels, self._indices = images, labels, indices
        self._data, self._rng = data, rng
        rest = len(indices) % batch
        self._cuts = [0, *range(rest or batch, len(indices) + 1, batch)]
        if self._cuts[1] == 1 and len(self._cuts) > 2:
            del self._cuts[1]

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._cuts) - 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields ((B, C, H, W) float32, (B,) int64)."""
        order = self._indices if self._rng is None else self._rng.permutation(self._indices)
        # All at once where that is little: a tenth of a small step is the scaling of its batch.
        little = len(order) * self._images[0].size <= _LITTLE
        whole = scaled(self._images[order], self._data) if little else None
        for start, stop in zip(self._cuts[:-1], self._cuts[1:], strict=True):
            chosen = order[start:stop]
            images = scaled(self._images[chosen], self._data) if whole is None else whole[start:stop]
            if self._rng is not None and self._data.augment != "none":
                images = self._vary(images)
            yield images, torch.from_numpy(self._labels[chosen])

    def _vary(self, images: Tensor) -> Tensor:
        from torchvision.transforms import v2

        # torchvision draws one shift a call, and from torch's global generator: the client has seeded it.
        steps = [v2.RandomCrop(images.shape[-1], padding=4)]
        if self._data.augment == "crop_flip":
            steps.append(v2.RandomHorizontalFlip())
        vary = v2.Compose(steps)
        return torch.stack([vary(image) for image in images])
