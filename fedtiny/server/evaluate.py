"""Central evaluation of weights on labelled pictures."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedtiny.data.datasets import Images
from fedtiny.data.loaders import Batches
from fedtiny.sparse.engine.resident import Resident
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights

__all__ = ["Evaluation", "Examiner"]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How good weights are.

    Attributes:
        loss: Mean cross-entropy, in nats.
        accuracy: Share of examples classified correctly, in [0, 1].
        confusion: (classes, classes) int64; row is the true class, column the predicted one.
    """

    loss: float
    accuracy: float
    confusion: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Examiner:
    """A set of examples to examine weights by.

    Attributes:
        resident: A network to put the weights in.
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
        data: How pixels are scaled.
        classes: Number of classes.
    """

    resident: Resident
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    data: Images
    classes: int

    def examine(self, weights: Weights, mask: Mask | None) -> Evaluation | None:
        """Runs all examples through the network in evaluation mode; None if there are none."""
        if not len(self.labels):
            return None
        scores, truth = self.scores(weights, mask)
        predicted = scores.argmax(1)
        return Evaluation(
            loss=float(functional.cross_entropy(scores, truth)),
            accuracy=float((predicted == truth).double().mean()),
            confusion=torch.bincount(truth * self.classes + predicted, minlength=self.classes**2).view(
                self.classes, self.classes
            ),
        )

    def scores(self, weights: Weights, mask: Mask | None) -> tuple[Tensor, Tensor]:
        """Logits, (N, classes) float32, of all examples (at least one) in evaluation mode; and (N,) int64 labels."""
        net = self.resident.holding(weights, mask)
        logits, labels = [], []
        with torch.inference_mode():
            for images, truth in Batches(self.images, self.labels, np.arange(len(self.labels)), 250, self.data):
                logits.append(net(images))
                labels.append(truth)
        return torch.cat(logits), torch.cat(labels)
