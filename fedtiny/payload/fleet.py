"""The two doors between a method and its clients."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from fedtiny.payload.messages import Order, Reply, Upload

__all__ = ["ClientFailed", "Federation", "Fleet"]


class ClientFailed(RuntimeError):
    """Too few clients answered for the run to go on; the message says who failed, when, and why."""


class Federation(Protocol):
    """What a method sees: clients that answer with uploads it can trust."""

    @property
    def size(self) -> int:
        """Clients in the federation."""

    def ask(self, order: Order, clients: Sequence[int]) -> Iterator[Upload]:
        """Has every client carry out `order`.

        Uploads come as clients finish, in any order: what is made of them must not depend on it. A client that
        fails, or whose upload is refused, is left out.

        Args:
            order: What to do.
            clients: Ids in [0, size), or `SERVER`.

        Raises:
            ClientFailed: Fewer clients answered than the run's quorum.
        """


class Fleet(Protocol):
    """Where clients run: orders in, bytes out. What is in the bytes is nobody's concern here."""

    @property
    def size(self) -> int:
        """Clients in the federation."""

    @property
    def spent(self) -> Mapping[str, float]:
        """Seconds since the fleet opened, by what they went to, summed over the places where clients run.

        `load`, `train` and `pack` are clients' work, `queue` is what lies between the hand-out of a client and its
        answer beside that, `put` what it takes to hand out orders, and `idle` is the rest while orders were out.
        """

    def send(self, order: Order, clients: Sequence[int]) -> Iterator[Reply]:
        """Has every client carry out `order`; a reply each, as they finish, in any order."""
