"""Both fleets, and any number of actors, to the bit; and what happens when a client fails."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedtiny.client.world import World
from fedtiny.fleets import Inline, RayActors
from fedtiny.payload.fleet import ClientFailed
from fedtiny.payload.messages import Order
from fedtiny.payload.probe import TopGradients
from fedtiny.payload.training import Training
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.network import Network
from tests.client.test_keep_mask import magnitude_mask

DENSE, SPARSE = Engine(name="dense"), Engine(name="sparse")


def order_for(network: Network) -> Order:
    mask = magnitude_mask(network, 0.1)
    weights = dict(network.weights)
    mask.apply_(weights)
    probe = TopGradients(count=dict.fromkeys(network.blocks[-1], 4))
    return Order(2, weights, mask, Training(epochs=2, batch=16), (probe,))


@pytest.mark.ray
@pytest.mark.parametrize(("actors", "engine"), [(1, SPARSE), (2, SPARSE), (3, DENSE)])
def test_ray_actors_give_the_bits_of_the_inline_fleet(network: Network, world: World, actors: int) -> None:
    order = order_for(network)
    with Inline().open(world, 3, 3) as inline, RayActors(actors=actors).open(world, 3, 3) as fleet:
        assert fleet.size == 3
        for a, b in zip(inline.ask(order, range(3)), fleet.ask(order, range(3)), strict=True):
            assert (a.client, a.examples, a.loss, a.sent_bytes) == (b.client, b.examples, b.loss, b.sent_bytes)
            assert a.weights is not None
            assert b.weights is not None
            assert all(torch.equal(x, b.weights[name]) for name, x in a.weights.items())


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
def test_a_local_ray_opens_no_port_beyond_loopback(network: Network, world: World) -> None:
    before = listening_addresses()
    with RayActors(actors=1).open(world, 3, 3) as fleet:
        list(fleet.ask(order_for(network), [0]))
        opened = {address.rpartition(":")[0] for address in listening_addresses() - before}
    assert opened
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert opened <= loopback


@pytest.mark.parametrize("engine", [SPARSE])
@pytest.mark.parametrize("fleet", [Inline(), pytest.param(RayActors(actors=2), marks=pytest.mark.ray)])
def test_a_client_that_raises_is_named_with_its_round_and_cause(
    network: Network, world: World, fleet: Inline | RayActors
) -> None:
    labels = world.labels.copy()
    labels[world.shares[1]] = 99  # no such class
    broken = replace(world, labels=labels)
    with fleet.open(broken, 3, 3) as opened:
        with pytest.raises(ClientFailed, match=r"client 1 failed in round 2: IndexError: Target 99 is out of bounds"):
            list(opened.ask(order_for(network), range(3)))
        # The others still can be asked.
        (upload,) = opened.ask(order_for(network), [2])
        assert upload.client == 2
