"""Answers `TopIndices`."""

from fedtiny.client.probes.top_gradients import CollectTop
from fedtiny.payload.probes import Indices

__all__ = ["CollectTopIndices"]


class CollectTopIndices(CollectTop):
    """Finds the largest gradients, and tells where they are."""

    def answer(self) -> Indices:
        """The indices of each layer's buffer."""
        return Indices({name: x.found[0] for name, x in self.buffers.items()})
