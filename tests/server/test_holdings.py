"""What clients hold takes memory for what is different in it, not for each client."""

import weakref
from pathlib import Path

from fedtiny.payload.codec import Held
from fedtiny.payload.training import Training
from fedtiny.server.checkpoint import load_checkpoint
from fedtiny.server.fingerprint import fingerprint
from fedtiny.server.holdings import Holdings
from fedtiny.sparse.network import Network
from tests.client.test_keep_mask import magnitude_mask
from tests.conftest import Runner


def test_equal_things_are_one_object_and_what_nobody_holds_is_forgotten(network: Network) -> None:
    holdings, made = Holdings(), []
    for client in range(5):  # equal masks and settings, made anew for each
        mask = magnitude_mask(network, 0.1)
        made.append(weakref.ref(mask))
        holdings[client] = Held({}, mask, Training())
        del mask
    assert len({id(held) for held in holdings.values()}) == 1
    holdings[5] = Held({}, magnitude_mask(network, 0.1), None)
    assert holdings[5] is not holdings[0]
    assert holdings[5].mask is holdings[0].mask
    weights = dict(network.weights)
    holdings[6], holdings[7] = (Held(weights, magnitude_mask(network, 0.2), None) for _ in range(2))
    assert holdings[6] is holdings[7]
    assert holdings[6].mask is not holdings[0].mask
    assert [ref() is not None for ref in made] == [True, False, False, False, False]
    made = [weakref.ref(x) for x in [holdings[6].mask] if x is not None]
    del holdings[6], holdings[7]
    assert [ref() for ref in made] == [None]


def test_checkpoints_grow_with_the_masks_and_not_with_the_clients(make_run: Runner, tmp_path: Path) -> None:
    """many_clients: cohorts of 10 of 100, 40 rounds; the mask moves every third, then no more."""
    words = ["rounds=40", "clients=100", "cohort=10", "data.examples=1200", "partition={name: iid}"]
    words += ["evaluate_every=40", "method.adjust_every=3", "method.stop_round=16"]
    result = make_run(*words)
    found = load_checkpoint(tmp_path / "run" / "checkpoints")
    assert found is not None
    versions, last = [0], dict[int, int]()
    for record in result.records:
        last |= dict.fromkeys(record.clients, versions[-1])
        versions.append(versions[-1] + bool(record.exchanged))
    assert versions[-1] >= 3
    assert len(last) > 90
    trained = {client: found.held[client] for client in last}
    assert len({id(held.mask) for held in trained.values()}) == len(set(last.values()))
    assert len({id(held) for held in trained.values()}) == len(set(last.values()))
    everyone = [held.mask for held in found.held.values() if held.mask is not None]
    assert len(everyone) == len(found.held) == 100
    assert len(set(map(id, everyone))) == len({fingerprint({}, mask) for mask in everyone})
    assert found.state.mask is not None
    weights = sum(4 * x.numel() for x in found.state.weights.values())
    masks = len(set(map(id, everyone))) * found.state.mask.wire_bytes()
    size = (tmp_path / "run" / "checkpoints" / "000040.safetensors").stat().st_size
    assert size < weights + masks + 60_000  # names, digests, and the settings of each order that someone holds
