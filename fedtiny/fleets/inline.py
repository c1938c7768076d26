"""Clients in this process, in order."""

from collections.abc import Iterator, Sequence

from fedtiny.client.client import Client
from fedtiny.client.world import World
from fedtiny.payload.codec import decode_upload
from fedtiny.payload.fleet import ClientFailed
from fedtiny.payload.messages import Order, Upload

__all__ = ["InlineFleet"]


class InlineFleet:
    """One `Client` plays them all."""

    def __init__(self, world: World, clients: int) -> None:
        """Makes the one place where clients live."""
        self._layout, self._size = world.layout, clients
        self._client = Client(world)

    @property
    def size(self) -> int:
        """Clients in the federation."""
        return self._size

    def ask(self, order: Order, clients: Sequence[int]) -> Iterator[Upload]:
        """Has every client carry out `order`, one when the one before was consumed."""
        for client in clients:
            try:
                buffer, seconds = self._client.send(order, client)
            except Exception as error:
                raise ClientFailed(
                    f"client {client} failed in round {order.round}: {type(error).__name__}: {error}"
                ) from error
            yield decode_upload(buffer, order, self._layout, client, seconds)
