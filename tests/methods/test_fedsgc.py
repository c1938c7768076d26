"""FedSGC: the directions that the server keeps and sends; what clients make of them is in tests/client."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import tensor

from fedtiny.client.world import World
from fedtiny.methods import FedDST, FedSGC
from fedtiny.methods.aggregation import Mean
from fedtiny.methods.base import ServerState
from fedtiny.payload.training import Training
from fedtiny.server.fingerprint import fingerprint
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network
from tests.conftest import federation

TRAINING = Training(epochs=2, batch=16)


def test_directions_by_hand() -> None:
    state = ServerState(
        3,
        {"w": tensor([1.0, -1.0, 0.5, 0.0, 0.0, 0.0])},
        Mask({"w": tensor([True, True, True, False, False, False])}),
        {"direction/w": tensor([-1, -1, -1, 0, -1, 1], dtype=torch.int8)},
    )
    # 0 rose, 1 fell, 2 stayed; one client grew 3, and it rose; nobody keeps 4 and 5, so what is known of them stays.
    kept = {"w": tensor([True, True, True, True, False, False])}
    memory = FedSGC().remember(state, {"w": tensor([2.0, -1.5, 0.5, 0.25, 0.0, 0.0])}, kept)
    assert memory["direction/w"].tolist() == [1, -1, 0, 1, -1, 1]
    assert memory["direction/w"].dtype is torch.int8
    assert state.memory["direction/w"].tolist() == [-1, -1, -1, 0, -1, 1]


def federate(method: FedSGC | FedDST, network: Network, world: World, rounds: int) -> list[ServerState]:
    fleet = federation(world, network, 3)
    states = [method.begin(network, fleet, np.random.default_rng(0))]
    for _ in range(rounds):
        order = method.order(network, states[-1], TRAINING)
        states.append(method.absorb(network, states[-1], fleet.ask(order, range(3)), Mean().fold()))
    return states


def test_an_adjusting_round_sends_where_the_weights_went_last(network: Network, world: World) -> None:
    method = FedSGC(density=0.2, adjust_every=2, stop_round=8)
    before, now = federate(method, network, world, 2)[-2:]
    order = method.order(network, now, TRAINING)
    assert order.adjust is not None
    assert order.adjust.guided == 0.5
    assert order.signs is not None
    assert list(order.signs) == list(order.adjust.count)
    for name, signs in order.signs.items():
        assert now.mask is not None
        keep = now.mask.keep[name]
        assert signs[keep].equal((now.weights[name] - before.weights[name]).sign()[keep].to(torch.int8))
        assert not signs[~keep].any()  # no client has trained anything else yet
    assert method.order(network, replace(now, round=3), TRAINING).signs is None


def test_what_clients_grew_in_vain_is_remembered(network: Network, world: World) -> None:
    state = federate(FedSGC(density=0.2, adjust_every=2, stop_round=8), network, world, 4)[-1]
    assert state.mask is not None
    known = sum(int((state.memory[f"direction/{name}"][~keep] != 0).sum()) for name, keep in state.mask.keep.items())
    assert known > 0


def test_it_is_not_feddst(network: Network, world: World) -> None:
    prints = set()
    for method in (
        FedDST(density=0.2, adjust_every=1, stop_round=8),
        FedSGC(density=0.2, adjust_every=1, stop_round=8, guided=1.0),
    ):
        state = federate(method, network, world, 2)[-1]
        prints.add(fingerprint(state.weights, state.mask))
    assert len(prints) == 2


def test_guided_0_is_refused() -> None:
    with pytest.raises(ValueError, match="guided"):
        FedSGC(guided=0.0)
