"""The process that plays clients, and how its replies travel.

The driver shares the machine's memory with it: an upload is written there once and read from there.
"""

import os
import pickle
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import ray
from ray import ObjectRef

from fedtiny.client.world import World
from fedtiny.payload.messages import Order, Reply

__all__ = ["ClientActor", "Sent", "arrived"]

Sent = tuple[Reply, pickle.PickleBuffer | None]
"""A reply without its bytes, and its bytes, which pickle leaves where they are."""


def _travelling(reply: Reply) -> Sent:
    if reply.buffer is None:
        return reply, None
    return replace(reply, buffer=b""), pickle.PickleBuffer(reply.buffer)


def arrived(sent: Sent) -> Reply:
    """The reply, on the driver's side."""
    reply, buffer = sent
    # A view of the node's shared memory: the upload is read from it, and then it is free again.
    return reply if buffer is None else replace(reply, buffer=memoryview(buffer).cast("B"))


class ClientActor:
    """A process that plays clients: a `Client` behind Ray's door."""

    def __init__(self, world: World, gpus: float) -> None:
        """Starts in a new process, one actor each; with a share of a GPU, on that which Ray has chosen for it."""
        from fedtiny.client.processor import processor

        device = processor(gpus)
        from fedtiny.client.client import Client  # here, so that the driver need not wait for Lightning

        self._new = partial(Client, world, device)
        self._client = self._new()
        self._box: ObjectRef[Order] | None = None

    def ready(self) -> int:
        """Answers once everything is imported and built: the process's id."""
        return os.getpid()

    def send(self, box: "list[ObjectRef[Order]]", clients: Sequence[int]) -> list[Sent]:
        """Carries out the order as each of the clients, in turn.

        Args:
            box: Holds the order's reference: it is fetched once, however many portions there are.
            clients: Their ids.
        """
        (reference,) = box
        if self._box != reference:
            self._box, self._order = reference, ray.get(reference)
        replies = []
        for client in clients:
            reply = self._client.send(self._order, client)
            if reply.buffer is None:
                self._client = self._new()
            replies.append(_travelling(reply))
        return replies
