"""Clients in this process, in order."""

import time
from collections.abc import Iterator, Mapping, Sequence

import torch

from fedtiny.client.client import Client
from fedtiny.client.processor import CPU
from fedtiny.client.world import World
from fedtiny.fleets.work import retold
from fedtiny.payload.messages import Order, Reply

__all__ = ["InlineFleet"]


class InlineFleet:
    """One `Client` plays them all."""

    def __init__(self, world: World, clients: int, retries: int = 0, device: torch.device = CPU) -> None:
        """Makes the one place where clients live.

        Args:
            world: What clients share.
            clients: Clients in the federation.
            retries: Tries of a client beyond the first, each in a new place.
            device: Where they compute.
        """
        self._world, self._size, self._retries = world, clients, retries
        self._device = device
        self._client = Client(world, device)
        self._spent: dict[str, float] = {}

    @property
    def size(self) -> int:
        """Clients in the federation."""
        return self._size

    @property
    def spent(self) -> Mapping[str, float]:
        """Seconds by what they went to; nothing ever waits here."""
        return self._spent

    def send(self, order: Order, clients: Sequence[int]) -> Iterator[Reply]:
        """Has every client carry out `order`, one when the reply of the one before was taken."""
        for client in clients:
            yield self._play(order, client)

    def _play(self, order: Order, client: int) -> Reply:
        first, tries = None, 0
        while True:
            began, tries = time.perf_counter(), tries + 1
            reply = self._client.send(order, client)
            for kind, seconds in reply.spent.items():
                self._spent[kind] = self._spent.get(kind, 0.0) + seconds
            if reply.buffer is not None:
                break
            first = first or reply
            self._spent["failed"] = self._spent.get("failed", 0.0) + time.perf_counter() - began
            self._client = Client(self._world, self._device)
            if tries > self._retries:
                break
        return retold(reply, first, tries)
