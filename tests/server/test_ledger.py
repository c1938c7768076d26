"""Clients that lie or fail: what the ledger makes of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest

from fedtiny.client.world import World
from fedtiny.fleets.inline import InlineFleet
from fedtiny.methods.aggregation import Mean
from fedtiny.methods.base import ServerState
from fedtiny.methods.dense import Dense
from fedtiny.payload.codec import NOTHING, Held, encode_order
from fedtiny.payload.fleet import ClientFailed
from fedtiny.payload.messages import Order, Personal, Reply
from fedtiny.payload.training import Training
from fedtiny.server.cohort import Population
from fedtiny.server.devices import DeviceClass, Devices
from fedtiny.server.fingerprint import fingerprint
from fedtiny.server.ledger import Ledger
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.network import Network
from tests.conftest import federation
from tests.fleets.through import Through

pytestmark = pytest.mark.parametrize("engine", [Engine(name="dense")], ids=["dense"])
TRAINING = Training(epochs=1, batch=16)


@dataclass(frozen=True)
class Lying(Through):
    """Clients of which some send one byte too many."""

    liars: set[int]

    def send(self, order: Order, clients: Sequence[int]) -> Iterator[Reply]:
        for reply in self.fleet.send(order, clients):
            buffer = bytes(reply.buffer or b"")
            yield replace(reply, buffer=buffer + b"!") if reply.client in self.liars else reply


def ledger_of(world: World, network: Network, liars: set[int], quorum: float, told: list[str]) -> Ledger:
    return Ledger(Lying(InlineFleet(world, 3), liars), world.layout, network, 200, quorum, told.append)


class Retrying:
    """Clients that answered when they were tried again."""

    size = 3

    def __init__(self, world: World, tries: int = 2, failure: str = "", traceback: str = "", lost: str = "") -> None:
        self.fleet = InlineFleet(world, 3)
        self.told = Reply(0, None, {}, failure, traceback, tries, lost)

    @property
    def spent(self) -> dict[str, float]:
        return {}

    def send(self, order: Order, clients: Sequence[int]) -> Iterator[Reply]:
        for reply in self.fleet.send(order, clients):
            yield replace(self.told, client=reply.client, buffer=reply.buffer)


def test_a_failure_whose_retry_worked_is_told_once_and_counted(network: Network, world: World) -> None:
    told: list[str] = []
    fleet = Retrying(world, tries=2, failure="raised OSError: x", traceback="in read")
    ledger = Ledger(fleet, world.layout, network, 200, 1.0, told.append)
    order = Dense().order(network, ServerState(0, network.weights, None), TRAINING)
    assert len(list(ledger.ask(order, [0, 2]))) == 2
    traffic = ledger.take()
    assert (traffic.retried, traffic.dropped) == (2, {})
    assert told == ["client 0 raised OSError: x; it answered when it was tried again (in round 1)\nin read"]


def test_a_process_that_was_lost_with_several_in_hand_is_told_once_and_nobody_is_blamed(
    network: Network, world: World
) -> None:
    told: list[str] = []
    lost = "or one of 2 others lost its actor (pid 7: End of file)"
    fleet = Retrying(world, tries=1, lost=lost)
    ledger = Ledger(fleet, world.layout, network, 200, 1.0, told.append)
    order = Dense().order(network, ServerState(0, network.weights, None), TRAINING)
    assert len(list(ledger.ask(order, [0, 1, 2]))) == 3
    traffic = ledger.take()
    assert (traffic.retried, traffic.dropped) == (0, {})
    assert told == [f"client 0 {lost}; it answered when it was tried alone (in round 1)"]


def test_who_lies_is_as_if_not_there_and_is_told_once(network: Network, world: World) -> None:
    told: list[str] = []
    ledger = ledger_of(world, network, {1}, 0.5, told)
    state = ServerState(0, network.weights, None)
    method = Dense()
    prints = []
    for asked, clients in ((ledger, [0, 1, 2]), (federation(world, network), [0, 2])):
        order = method.order(network, state, TRAINING)
        after = method.absorb(network, state, asked.ask(order, clients), Mean().fold())
        prints.append(fingerprint(after.weights, after.mask))
    assert prints[0] == prints[1]
    size = len(encode_order(order, NOTHING))
    traffic = ledger.take()
    assert traffic.refused == 1
    (reason,) = traffic.dropped.values()
    assert reason.startswith("was refused: must be ")
    assert traffic.dropped.keys() == {1}
    assert told == [f"client 1 {reason} (in round 1)"]
    # It did send its bytes; and since nobody knows what it still holds, the next order is sent whole.
    assert traffic.upload_bytes == 3 * next(ledger.ask(order, [0])).sent_bytes + 1
    ledger.take()
    list(ledger.ask(order, [1, 0]))
    assert ledger.take().download_bytes > size
    assert len(told) == 1


@pytest.mark.parametrize("limits", [0, 1, 2])
def test_a_simulated_round_encodes_what_it_sends_once(
    network: Network, world: World, limits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def encoding(order: Order, held: Held) -> bytes:
        message = encode_order(order, held)
        encoded.append(len(message))
        return message

    monkeypatch.setattr("fedtiny.server.ledger.encode_order", encoding)
    devices = Devices(classes={"phone": DeviceClass()})
    people = Population(devices, ("phone",) * 3, {client: len(world.shares[client]) for client in range(3)}, 0)
    ledger = Ledger(InlineFleet(world, 3), world.layout, network, 200, population=people)
    weights = network.weights  # one mapping: what is shared is shared by reference
    personal = {client: Personal(weights, None, 9.0) for client in range(limits)}
    for round in range(2):
        encoded.clear()
        order = Order(round, weights, None, TRAINING, personal=personal)
        assert len(ledger.play(order, range(3), 2, None).accepted) == 2
        ledger.deliver(order, [2])
        assert len(list(ledger.ask(order.to([0, 1]), [0, 1], 2))) == 2
        assert len(encoded) == (2 if limits else 1)  # with a limit, and without
        assert ledger.take().download_bytes == limits * max(encoded) + (3 - limits) * min(encoded)


@pytest.mark.parametrize(("quorum", "liars", "enough"), [(0.5, {1}, True), (0.5, {0, 1}, False), (1.0, {1}, False)])
def test_the_quorum(network: Network, world: World, quorum: float, liars: set[int], enough: bool) -> None:
    ledger = ledger_of(world, network, liars, quorum, [])
    asked = ledger.ask(Order(4, network.weights, None, TRAINING), range(3))
    if enough:
        assert len(list(asked)) == 2
        return
    needed = 2 if quorum == 0.5 else 3
    says = rf"of 3 answered in round 5, fewer than the quorum of {needed}: client {min(liars)} was refused: must be"
    with pytest.raises(ClientFailed, match=says):
        list(asked)
