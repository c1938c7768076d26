"""Pure folds over what clients send."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedtiny.sparse.network import Weights

__all__ = ["WeightedMean"]


class WeightedMean:
    """The mean of named tensors, weighted; summed in float64, in the order of the calls.

    It holds one sum, however many clients there are. A place that is exactly 0 in every tensor stays exactly 0.
    """

    def __init__(self) -> None:
        """Starts from nothing."""
        self._sums: dict[str, Tensor] = {}
        self._total = 0.0

    def add(self, tensors: Mapping[str, Tensor], weight: float) -> None:
        """Takes one client's tensors; they are not changed."""
        for name, tensor in tensors.items():
            scaled = tensor.double() * weight
            self._sums[name] = self._sums[name] + scaled if name in self._sums else scaled
        self._total += weight

    def result(self) -> Weights:
        """Sum of weight * tensor over sum of weights, float32."""
        return {name: (total / self._total).to(torch.float32) for name, total in self._sums.items()}
