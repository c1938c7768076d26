"""Both fleets, and any number of actors, to the bit; and what happens when a client fails."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fedtiny.client.world import World
from fedtiny.fleets import Inline, RayActors
from fedtiny.payload.fleet import Fleet
from fedtiny.payload.messages import Order
from fedtiny.payload.probes import TopGradients
from fedtiny.payload.training import Training
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.network import Network
from tests.client.test_keep_mask import magnitude_mask

SPARSE = Engine(name="sparse")


def order_for(network: Network) -> Order:
    mask = magnitude_mask(network, 0.1)
    weights = dict(network.weights)
    mask.apply_(weights)
    probe = TopGradients(count=dict.fromkeys(network.blocks[-1], 4))
    return Order(2, weights, mask, Training(epochs=2, batch=16), (probe,))


def answers(fleet: Fleet, order: Order, clients: Sequence[int]) -> dict[int, bytes | None]:
    return {reply.client: None if reply.buffer is None else bytes(reply.buffer) for reply in fleet.send(order, clients)}


@pytest.mark.ray
@pytest.mark.parametrize("engine", [SPARSE])
def test_ray_actors_give_the_bits_of_the_inline_fleet(network: Network, world: World) -> None:
    """Byte by byte; `test_whole_runs.py` has other numbers of actors."""
    order = order_for(network)
    with Inline().open(world, 3, 3) as inline, RayActors(actors=2).open(world, 3, 3) as fleet:
        assert fleet.size == 3
        assert answers(inline, order, range(3)) == answers(fleet, order, range(3))


def listening_addresses() -> set[str]:
    """Addresses on which processes of this session listen, beyond those that did before."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A":
                found.add(local)
    return found


@pytest.mark.ray
@pytest.mark.parametrize("engine", [SPARSE])
@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="reads Linux's table of sockets")
def test_a_local_ray_opens_no_port_beyond_loopback_and_keeps_others_out(network: Network, world: World) -> None:
    before = listening_addresses()
    with RayActors(actors=1).open(world, 3, 3) as fleet:
        list(fleet.send(order_for(network), [0]))
        told = r"connected to another Ray already, got 10\.0\.0\.1:6379; leave the address out to use that one, or call"
        with pytest.raises(ValueError, match=told), RayActors(address="10.0.0.1:6379").open(world, 3, 3):
            pass
        opened = {address.rpartition(":")[0] for address in listening_addresses() - before}
    assert opened
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert opened <= loopback


@pytest.mark.parametrize("engine", [SPARSE])
@pytest.mark.parametrize("fleet", [Inline(), pytest.param(RayActors(actors=2), marks=pytest.mark.ray)])
def test_a_client_that_raises_is_tried_again_and_named_with_its_cause(
    network: Network, world: World, fleet: Inline | RayActors
) -> None:
    labels = world.labels.copy()
    labels[world.shares[1]] = 99  # no such class
    broken = replace(world, labels=labels)
    with fleet.open(broken, 3, 3) as opened:
        replies = {reply.client: reply for reply in opened.send(order_for(network), range(3))}
        assert replies[1].buffer is None
        assert replies[1].failure == "raised IndexError: Target 99 is out of bounds. (tried 2 times)"
        assert "cross_entropy" in replies[1].traceback
        assert replies[1].tries == 2
        assert replies[0].buffer is not None
        # The others still can be asked, and come to the same.
        assert answers(opened, order_for(network), [2]) == {2: replies[2].buffer}
