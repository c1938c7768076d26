"""All that devices share: sent once to each process that plays clients."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedtiny.data.datasets import Images
from fedtiny.models.zoo import AnyModel
from fedtiny.payload.packing import Layout
from fedtiny.sparse.engine.choose import Engine

__all__ = ["World"]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """The same for every client of a run; a client is no more than an array of indices into it.

    Attributes:
        seed: The run's seed.
        model: The network's architecture.
        channels: Channels of an image.
        classes: Number of classes.
        layout: Names and shapes of the network's weights.
        data: How pixels are scaled and varied.
        engine: How to compute with a masked network; `sparse` or `dense`.
        images: (N, C, H, W) uint8, training set, never written.
        labels: (N,) int64.
        shares: Client id (or `SERVER`) -> indices of its training examples.
    """

    seed: int
    model: AnyModel
    channels: int
    classes: int
    layout: Layout
    data: Images
    engine: Engine
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    shares: Mapping[int, NDArray[np.int64]]
