"""An order as each client gets it."""

from fedtiny.payload.messages import Order
from fedtiny.payload.packing import Layout, Packing
from fedtiny.server.effort import Effort
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network

__all__ = ["Asked"]


class Asked:
    """What one order asks of each client: made once for all of them, or once a mask where masks are personal.

    Attributes:
        order: The order, with all that is personal in it.
    """

    def __init__(self, order: Order, network: Network, layout: Layout) -> None:
        """Names the order, and what it is about."""
        self.order, self._network, self._layout = order, network, layout
        self._efforts: dict[int, Effort] = {}  # by the mask's id: the order keeps its masks alive
        self._packings: dict[int, Packing] = {}

    def of(self, client: int) -> Order:
        """The order as the client gets it."""
        return self.order.of(client)

    def effort(self, client: int) -> Effort:
        """What it costs the client."""
        mask = self._mask(client)
        if id(mask) not in self._efforts:
            self._efforts[id(mask)] = Effort.of(self._network, self.of(client))
        return self._efforts[id(mask)]

    def packing(self, client: int) -> Packing:
        """How the client's weights are packed."""
        mask = self._mask(client)
        if id(mask) not in self._packings:
            self._packings[id(mask)] = Packing.of(self._layout, mask)
        return self._packings[id(mask)]

    def _mask(self, client: int) -> Mask | None:
        own = self.order.personal.get(client)
        return self.order.mask if own is None else own.mask
