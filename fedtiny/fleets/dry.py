"""Clients that compute nothing: they answer every order with an upload of the right form, to count its bytes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from fedtiny import seeds
from fedtiny.client.client import Client
from fedtiny.client.world import World
from fedtiny.payload.messages import SERVER, Order, Reply, Upload
from fedtiny.payload.packing import Packing
from fedtiny.payload.probes import Probe
from fedtiny.payload.probes.scoring import Scoring
from fedtiny.payload.upload import encode_upload
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.select import drop_then_grow

__all__ = ["DryFleet"]


class DryFleet:
    """Weights come back as they were sent, and answers are made up: see `blank` of each question.

    All clients answer an order alike. What the server asks itself without training is little work, and may decide how
    many weights each layer keeps: a real client answers that. So it is with scores that clients are asked for: the
    server's public examples, if there are any, stand for theirs.
    """

    def __init__(self, world: World, clients: int) -> None:
        """Names who there is.

        Args:
            world: What clients share.
            clients: Clients in the federation.
        """
        self._world, self._size = world, clients
        self._device: Client | None = None
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
            yield self._server().send(order, SERVER)
            return
        number = self._orders[order.round]
        self._orders[order.round] += 1
        common = None if order.personal else self._made_up(order, number)
        for client in clients:
            mine = order.of(client)
            upload = common or self._made_up(mine, number)
            count = len(self._world.shares[client])
            upload = replace(upload, client=client, examples=count - mine.held_out(count))
            yield Reply(client, encode_upload(upload, mine))

    def _made_up(self, order: Order, number: int) -> Upload:
        """What anybody answers to this order."""
        layout = self._world.layout
        rng = seeds.stream(self._world.seed, "dry", order.round, number)
        mask = None if order.adjust is None else _moved(order, rng)
        packing = Packing.of(layout, mask or order.mask)
        # Better from round to round, so that nothing is kept back.
        loss = 1.0 / (order.round + 2)
        sends = order.training is not None and order.sends(loss)
        values = packing.pack(order.weights) if sends else None
        if order.training is None and len(self._world.shares[SERVER]) >= 2 and all(_decides(x) for x in order.probes):
            answers = self._server().carry_out(order, SERVER).answers
        else:
            answers = tuple(probe.blank(layout.sizes, packing.places, rng) for probe in order.probes)
        return Upload(0, 1, loss, values, packing, answers, mask=mask)

    def _server(self) -> Client:
        self._device = self._device or Client(self._world)
        return self._device


def _decides(probe: Probe) -> bool:
    """Whether what is kept of each layer hangs on the answer."""
    return isinstance(probe, Scoring)


def _moved(order: Order, rng: np.random.Generator) -> Mask:
    """The mask, as many weights of each layer exchanged as the order says, at random places."""
    assert order.adjust is not None
    assert order.mask is not None
    keeps = dict(order.mask.keep)
    for name, count in order.adjust.count.items():
        gradient = torch.from_numpy(rng.random(keeps[name].shape) + 1e-9)
        keeps[name] = drop_then_grow(keeps[name], order.weights[name], gradient, count)
    return Mask(keeps)
