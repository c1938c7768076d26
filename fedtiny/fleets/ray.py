"""Clients as Ray actors: the only place where Ray is imported."""

import logging
import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# Before the import, which reads them. Ray's workers are at niceness 15 otherwise, and starve beside anything else that
# computes. The last keeps every port of a local Ray on the loopback interface: its name speaks of two other systems,
# but what it does is to take 127.0.0.1 as the address of this node.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray
from ray import ObjectRef
from ray.actor import ActorClass, ActorHandle
from ray.exceptions import RayError, RayTaskError

from fedtiny.client.world import World
from fedtiny.payload.codec import Layout, decode_upload
from fedtiny.payload.fleet import ClientFailed
from fedtiny.payload.messages import Order, Upload

__all__ = ["RayFleet", "local_ray", "start_fleet"]


@contextmanager
def local_ray(cpus: int | None) -> Iterator[int]:
    """A quiet local Ray on the loopback interface; yields its CPUs. One that runs already is used and left alone.

    Args:
        cpus: CPUs to promise, more than the machine has if need be; None is what it has.
    """
    if ray.is_initialized():
        yield int(ray.cluster_resources()["CPU"])
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        yield int(ray.cluster_resources()["CPU"])
    finally:
        ray.shutdown()


Sent = tuple[bytes, float]
"""An encoded upload, and the seconds of the work."""


class ClientActor:
    """A process that plays clients: a `Client` behind Ray's door."""

    def __init__(self, world: World) -> None:
        from fedtiny.client.client import Client  # here, so that the driver need not wait for Lightning

        self._client = Client(world)

    def send(self, order: Order, client: int) -> Sent:
        """Carries out the order as `client`."""
        return self._client.send(order, client)


def start_fleet(world: World, clients: int, actors: int) -> "RayFleet":
    """Starts `actors` processes; `world` lies once in each node's shared memory."""
    shared = ray.put(world)
    remote: ActorClass[ClientActor] = ray.remote(num_cpus=1)(ClientActor)
    handles = [remote.remote(shared) for _ in range(actors)]
    return RayFleet([x for x in handles if isinstance(x, ActorHandle)], world.layout, clients)


class RayFleet:
    """Actors that take turns at being clients."""

    def __init__(self, actors: Sequence[ActorHandle[ClientActor]], layout: Layout, clients: int) -> None:
        """Takes over the actors."""
        self._actors, self._layout, self._size = actors, layout, clients

    @property
    def size(self) -> int:
        """Clients in the federation."""
        return self._size

    def ask(self, order: Order, clients: Sequence[int]) -> Iterator[Upload]:
        """Hands the clients to whichever actor is free, and yields their uploads in the order of `clients`."""
        shared = ray.put(order)
        waiting, free = deque(clients), deque(self._actors)
        running: dict[ObjectRef[Sent], tuple[int, ActorHandle[ClientActor]]] = {}
        done: dict[int, Sent] = {}
        for client in clients:
            while client not in done:
                while free and waiting:
                    actor, other = free.popleft(), waiting.popleft()
                    running[actor.send.remote(shared, other)] = (other, actor)
                ready, _ = ray.wait(list(running))
                for ref in ready:
                    other, actor = running.pop(ref)
                    done[other] = self._fetch(ref, order, other)
                    free.append(actor)
            buffer, seconds = done.pop(client)
            yield decode_upload(buffer, order, self._layout, client, seconds)

    def _fetch(self, ref: ObjectRef[Sent], order: Order, client: int) -> Sent:
        try:
            buffer, seconds = ray.get(ref)
        except RayTaskError as error:
            cause = error.cause
            raise ClientFailed(
                f"client {client} failed in round {order.round}: {type(cause).__name__}: {cause}\n{error}"
            ) from None
        except RayError as error:
            raise ClientFailed(f"client {client} failed in round {order.round}: {error}") from None
        return buffer, seconds
