"""FedTiny, static and dense as whole methods, on a real inline fleet."""

import itertools

import numpy as np
import pytest
import torch

from fedtiny.client.client import Client
from fedtiny.client.world import World
from fedtiny.methods import Dense, FedTiny, Static
from fedtiny.methods.aggregation import Mean
from fedtiny.methods.base import ServerState
from fedtiny.payload.messages import Order
from fedtiny.payload.probes import TopGradients
from fedtiny.payload.training import Training
from fedtiny.sparse.allocate import Erk, Noisy, Uniform
from fedtiny.sparse.network import Network
from tests.conftest import federation

TRAINING = Training(epochs=1, batch=16)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("density", "candidates"),
    [(0.1, 1), (0.05, 2), (0.02, 5), (0.01, 10), (0.003, 34), (0.001, 100), (1.0, 1)],
)
def test_the_pool_is_a_tenth_over_the_density(density: float, candidates: int) -> None:
    assert FedTiny(density=density).pool == candidates
    assert FedTiny(density=density, candidates=3).pool == 3


@pytest.mark.parametrize("density", [0.3, 0.05, 0.01])
def test_candidates_are_magnitude_masks_of_one_network_at_most_as_dense_as_asked(
    network: Network, density: float
) -> None:
    pretrained = network.weights
    masks = FedTiny(density=density, candidates=8).masks(network, pretrained, rng())
    assert len({tuple(mask.densities().values()) for mask in masks}) > 1
    for mask in masks:
        assert mask.kept <= density * mask.size
        assert mask.density >= 0.95 * density - 8 / mask.size
        for name, keep in mask.keep.items():
            assert keep.any()
            magnitudes = pretrained[name].abs()
            if not keep.all():
                assert magnitudes[keep].min() >= magnitudes[~keep].max()


def test_begin_keeps_the_candidate_of_least_loss(network: Network, world: World) -> None:
    method = FedTiny(density=0.05, candidates=4, development=1.0)
    state = method.begin(network, federation(world, network, 3), rng())
    losses = state.memory["candidate_losses"].tolist()
    assert len(losses) == 4
    assert state.mask is not None
    chosen = losses.index(min(losses))
    assert state.mask.equals(method.masks(network, network.weights, rng())[chosen])
    (table,) = method.findings(network, state)
    assert table.chosen == chosen
    assert [row[1] for row in table.rows] == losses


def test_one_candidate_is_still_measured_on_the_clients(network: Network, world: World) -> None:
    state = FedTiny(density=0.05, candidates=1).begin(network, federation(world, network, 3), rng())
    assert not state.weights["stem.1.running_mean"].equal(network.weights["stem.1.running_mean"])


def federate(method: FedTiny | Static | Dense, network: Network, world: World, rounds: int) -> list[ServerState]:
    fleet = federation(world, network, 3)
    states = [method.begin(network, fleet, rng())]
    for _ in range(rounds):
        order = method.order(network, states[-1], TRAINING)
        states.append(method.absorb(network, states[-1], fleet.ask(order, range(3)), Mean().fold()))
    return states


def test_adjusting_rounds_move_one_block_by_the_count_and_no_other(network: Network, world: World) -> None:
    method = FedTiny(density=0.1, candidates=1, adjust_every=2, stop_round=8, fraction=0.3)
    states = federate(method, network, world, 10)
    blocks = network.blocks[::-1]
    for before, after in itertools.pairwise(states):
        assert before.mask is not None
        assert after.mask is not None
        r = before.round
        probes = method.order(network, before, TRAINING).probes
        number = r // 2 - 1 if r % 2 == 0 and 0 < r < 8 else None
        if number is None:
            assert probes == ()
            assert after.mask is before.mask
            continue
        (probe,) = probes
        assert isinstance(probe, TopGradients)
        assert set(probe.count) <= set(blocks[number % 3])
        for name, keep in before.mask.keep.items():
            grown = after.mask.keep[name] & ~keep
            assert int(grown.sum()) == probe.count.get(name, 0)
            assert int(after.mask.keep[name].sum()) == int(keep.sum())
            assert not after.weights[name][grown].any()  # a grown weight starts at 0
            assert not after.weights[name][~after.mask.keep[name]].any()


def test_a_grown_weight_learns_without_a_past(network: Network, world: World) -> None:
    """Its first step is -lr * gradient: there is no momentum, though SGD has one."""
    states = federate(FedTiny(density=0.1, candidates=1, adjust_every=1, stop_round=9), network, world, 2)
    before, after = states[1], states[2]
    assert before.mask is not None
    assert after.mask is not None
    name = "stages.2.0.conv2.weight"
    grown = after.mask.keep[name] & ~before.mask.keep[name]
    assert grown.any()
    one_step = Training(epochs=1, batch=64, lr=0.1, momentum=0.9, weight_decay=0.0)
    everything = Order(2, after.weights, after.mask, one_step)
    upload = Client(world).carry_out(everything, 1)
    assert upload.weights is not None
    assert upload.weights[name][grown].any()
    assert not upload.weights[name][~after.mask.keep[name]].any()


def test_fraction_0_never_asks_for_gradients(network: Network, world: World) -> None:
    method = FedTiny(density=0.1, candidates=1, adjust_every=1, fraction=0.0)
    states = federate(method, network, world, 3)
    assert states[3].mask is states[0].mask


@pytest.mark.parametrize("allocation", [Uniform(), Erk(), Noisy()])
@pytest.mark.parametrize("score", ["magnitude", "random"])
def test_static_keeps_its_first_mask(
    network: Network, world: World, allocation: Uniform | Erk | Noisy, score: str
) -> None:
    method = Static.model_validate({"density": 0.1, "allocation": allocation, "score": score})
    states = federate(method, network, world, 2)
    assert states[0].mask is not None
    assert states[0].mask.kept <= 0.1 * states[0].mask.size
    assert states[2].mask is states[0].mask
    magnitude = Static(density=0.1, allocation=allocation).begin(network, federation(world, network, 3), rng()).mask
    assert states[0].mask.equals(magnitude) == (score == "magnitude")


def test_dense_with_one_client_is_central_training(network: Network, world: World) -> None:
    fleet, method = federation(world, network, 1), Dense()
    state = method.begin(network, fleet, rng())
    client, weights = Client(world), network.weights
    for r in range(3):
        order = method.order(network, state, TRAINING)
        state = method.absorb(network, state, fleet.ask(order, [0]), Mean().fold())
        central = client.carry_out(Order(r, weights, None, TRAINING), 0).weights
        assert central is not None
        weights = central
    assert all(torch.equal(x, weights[name]) for name, x in state.weights.items())


@pytest.mark.parametrize("method", [FedTiny(density=0.0005), Static(density=0.0005)])
def test_a_density_that_cannot_be_had_is_found_before_anything_runs(network: Network, method: FedTiny | Static) -> None:
    with pytest.raises(ValueError, match="the least density is"):
        method.check(network, rng())
