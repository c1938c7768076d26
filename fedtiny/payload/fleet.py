"""The door between the server and its clients."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from fedtiny.payload.messages import Order, Upload

__all__ = ["ClientFailed", "Fleet"]


class ClientFailed(RuntimeError):
    """A client raised; the message carries its id, the round and the traceback of the place where it ran."""


class Fleet(Protocol):
    """All clients behind one door; whether they are Ray actors is not the caller's concern."""

    @property
    def size(self) -> int:
        """Clients in the federation."""

    def ask(self, order: Order, clients: Sequence[int]) -> Iterator[Upload]:
        """Has every client carry out `order`.

        Uploads come in the order of `clients`, whichever finishes first, so floating-point sums do not depend on
        scheduling. A consumed upload may be freed: a fold holds one client at a time.

        Args:
            order: What to do.
            clients: Ids in [0, size), or `SERVER`.

        Raises:
            ClientFailed: A client raised.
        """
