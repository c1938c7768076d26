"""FedTiny's first module, equation by equation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor
from torch.nn import functional

from fedtiny.client.world import World
from fedtiny.data.loaders import scaled
from fedtiny.methods import FedTiny
from fedtiny.methods.selection import (
    adapt,
    aggregate_mean,
    aggregate_pooled,
    best,
    candidate_loss,
    vanilla,
)
from fedtiny.payload.probes import Loss, Moments
from fedtiny.sparse.network import Network, load_
from tests.client.test_keep_mask import magnitude_mask
from tests.conftest import federation

# Client 0 saw 0 and 2 (mean 1, unbiased variance 2); client 1 saw 4, 4, 7 (mean 5, variance 3).
SHARES = [(1, Moments(tensor([1.0]), tensor([2.0]), 2)), (3, Moments(tensor([5.0]), tensor([3.0]), 3))]


def test_mean_aggregation_weighs_clients_and_knows_no_spread_of_means() -> None:
    result = aggregate_mean(SHARES)
    assert result.mean.item() == 4.0  # (1 * 1 + 3 * 5) / 4
    assert result.var.item() == 2.75  # (1 * 2 + 3 * 3) / 4


def test_pooled_aggregation_is_the_moments_of_all_values() -> None:
    result = aggregate_pooled(SHARES)
    together = tensor([0.0, 2.0, 4.0, 4.0, 7.0])
    assert result.mean.item() == pytest.approx(together.mean().item())  # 3.4
    assert result.var.item() == pytest.approx(together.var().item())  # 6.8


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_pooled_equals_the_pooled_data_for_any_deal(sizes: list[int], seed: int) -> None:
    values = torch.randn(sum(sizes), 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    shares = [(len(x), Moments(x.mean(0), x.var(0), len(x))) for x in values.split(sizes)]
    result = aggregate_pooled(shares)
    assert result.mean.tolist() == pytest.approx(values.mean(0).tolist(), abs=1e-5)
    assert result.var.tolist() == pytest.approx(values.var(0).tolist(), rel=1e-4)


def test_equal_clients_make_mean_and_pooled_agree() -> None:
    moments = Moments(tensor([1.5]), tensor([2.0]), 1000)
    mean, pooled = aggregate_mean([(1, moments)] * 3), aggregate_pooled([(1, moments)] * 3)
    assert mean.mean.item() == pooled.mean.item()
    assert mean.var.item() == pytest.approx(pooled.var.item(), rel=1e-3)


def test_the_loss_is_weighted_by_development_examples() -> None:
    assert candidate_loss([Loss(10.0, 10), Loss(60.0, 20)]) == pytest.approx(70 / 30)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        # One of three counts as the worse of the two others: (10 + 60 + 3 * 10) / 40.
        ([Loss(10.0, 10), Loss(60.0, 20), Loss(NAN, 10)], 2.5),
        ([Loss(10.0, 10), Loss(60.0, 20), Loss(INF, 10)], 2.5),
        ([Loss(10.0, 10), Loss(60.0, 20), Loss(3e38, 10)], 2.5),
        ([Loss(NAN, 10), Loss(60.0, 20), Loss(INF, 10)], NAN),  # one alone cannot vouch for a candidate
        ([Loss(1.0, 10), Loss(NAN, 10)], NAN),
        ([Loss(INF, 10)], NAN),
    ],
)
def test_one_client_can_neither_veto_a_candidate_nor_vouch_for_it(answers: list[Loss], expected: float) -> None:
    assert candidate_loss(answers) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [([2.0, 1.0, 3.0], 1), ([1.0, 1.0], 0), ([float("nan"), 5.0], 1), ([float("nan"), float("inf")], 1)],
)
def test_the_least_loss_wins_and_nan_comes_last(losses: list[float], chosen: int) -> None:
    assert best(losses) == chosen


@pytest.mark.parametrize("clients", [1, 3])
def test_the_first_layers_pooled_statistics_are_those_of_all_data(network: Network, world: World, clients: int) -> None:
    """A real round trip: every client measures, the wire carries, the server pools."""
    fleet = federation(world, network, clients)
    pretrained = network.weights
    adapted, loss = adapt(pretrained, magnitude_mask(network, 0.1), fleet, "pooled", 1.0)
    images = torch.cat([scaled(world.images[world.shares[c]], world.data) for c in range(clients)])
    with torch.no_grad():
        first = network.module.get_submodule("stem.0")(images)
    assert adapted["stem.1.running_mean"].tolist() == pytest.approx(first.mean((0, 2, 3)).tolist(), abs=1e-5)
    values = first.transpose(0, 1).flatten(1)
    assert adapted["stem.1.running_var"].tolist() == pytest.approx(values.var(1).tolist(), rel=1e-4)
    assert loss > 0


def test_adapting_leaves_the_pretrained_weights_alone(network: Network, world: World) -> None:
    pretrained = network.weights
    before = {name: x.clone() for name, x in pretrained.items()}
    mask = magnitude_mask(network, 0.1)
    adapted, _ = adapt(pretrained, mask, federation(world, network, 3), "mean", 1.0)
    assert all(x.equal(before[name]) for name, x in pretrained.items())
    assert all(not adapted[name][~keep].any() for name, keep in mask.keep.items())
    # Only statistics differ from the masked weights: nothing was trained.
    changed = {name for name in adapted if name not in mask.keep and not adapted[name].equal(pretrained[name])}
    assert {name.rsplit(".", 1)[1] for name in changed} == {"running_mean", "running_var"}


def test_vanilla_selection_measures_the_pruned_network_as_it_is(network: Network, world: World) -> None:
    """By hand: the loss of the masked pretrained network on all development data, its own statistics in place."""
    pretrained = network.weights
    mask = magnitude_mask(network, 0.1)
    fleet = federation(world, network, 3)
    weights, loss = vanilla(pretrained, mask, fleet, 1.0)
    for name, x in weights.items():
        keep = mask.keep.get(name)
        assert x.equal(pretrained[name] if keep is None else pretrained[name] * keep)
    load_(network.module, weights)
    images = torch.cat([scaled(world.images[world.shares[c]], world.data) for c in range(3)])
    labels = torch.cat([torch.from_numpy(world.labels[world.shares[c]]) for c in range(3)])
    with torch.no_grad():
        logits = network.module.eval()(images)
    assert loss == pytest.approx(float(functional.cross_entropy(logits, labels)), rel=1e-4)
    # It asks for losses alone: no statistics go up, and each client answers once.
    traffic = fleet.take()
    assert traffic.upload_bytes == 3 * (12 + 8)


def test_what_decides_the_selection(network: Network, world: World) -> None:
    """Adapted and vanilla, each candidate's loss is its own; the fields that do nothing are told."""
    both = [FedTiny(density=0.05, candidates=4, development=1.0, adapt=adapt) for adapt in (True, False)]
    states = [m.begin(network, federation(world, network, 3), np.random.default_rng(0)) for m in both]
    adapted, plain = (state.memory["candidate_losses"].tolist() for state in states)
    assert adapted != plain
    assert states[1].weights["stem.1.running_mean"].equal(network.weights["stem.1.running_mean"])
    assert not states[0].weights["stem.1.running_mean"].equal(network.weights["stem.1.running_mean"])
    ignored = FedTiny(adapt=False, bn_aggregation="pooled", fraction=0.0).remarks(10)
    assert ignored == ("method.bn_aggregation (pooled) does nothing where method.adapt is false",)
    assert FedTiny(bn_aggregation="pooled", fraction=0.0).remarks(10) == ()
