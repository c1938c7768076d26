"""Clients that compute nothing: they answer every order with an upload of the right form, to count its bytes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from fedtiny import seeds
from fedtiny.client.world import World
from fedtiny.fleets.inline import InlineFleet
from fedtiny.payload.messages import SERVER, Order, Reply, Upload
from fedtiny.payload.packing import Packing
from fedtiny.payload.upload import encode_upload

__all__ = ["DryFleet"]


class DryFleet:
    """Weights come back as they were sent, and answers are made up: see `blank` of each question.

    All clients answer an order alike. What the server asks itself without training is little work, and may decide how
    many weights each layer keeps: a real client answers that.
    """

    def __init__(self, world: World, clients: int) -> None:
        """Names who there is.

        Args:
            world: What clients share.
            clients: Clients in the federation.
        """
        self._world, self._size = world, clients
        self._server: InlineFleet | None = None
        self._orders: Counter[int] = Counter()  # of each round, so that no two get the same answers

    @property
    def size(self) -> int:
        """Clients in the federation."""
        return self._size

    @property
    def spent(self) -> Mapping[str, float]:
        """No client ever works."""
        return {}

    def send(self, order: Order, clients: Sequence[int]) -> Iterator[Reply]:
        """Answers for every client, in order."""
        if order.training is None and tuple(clients) == (SERVER,):
            self._server = self._server or InlineFleet(self._world, self._size)
            yield from self._server.send(order, clients)
            return
        world = self._world
        packing = Packing.of(world.layout, order.mask)
        values = None if order.training is None else packing.pack(order.weights)
        rng = seeds.stream(world.seed, "dry", order.round, self._orders[order.round])
        self._orders[order.round] += 1
        answers = tuple(probe.blank(world.layout.sizes, packing.places, rng) for probe in order.probes)
        for client in clients:
            # A loss of 0 is as long as any other.
            upload = Upload(client, len(world.shares[client]), 0.0, values, packing, answers)
            yield Reply(client, encode_upload(upload))
