"""FL-PQSU: what the server keeps, what clients keep back, and what uploads weigh."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedtiny.client.world import World
from fedtiny.config.load import ConfigError, load
from fedtiny.methods import FlPqsu
from fedtiny.methods.aggregation import Mean
from fedtiny.methods.base import ServerState
from fedtiny.payload.messages import Upload
from fedtiny.payload.packing import Layout, Packing
from fedtiny.payload.training import Training
from fedtiny.payload.values import Exact, Quantised
from fedtiny.prepare import prepare
from fedtiny.sparse.network import Network
from tests.client.test_keep_mask import magnitude_mask
from tests.conftest import SMOKE, Runner, federation

TRAINING = Training(epochs=1, batch=16)


def begun(method: FlPqsu, network: Network, world: World) -> ServerState:
    return method.begin(network, federation(world, network), np.random.default_rng(0))


def test_whole_filters_or_the_largest_weights(network: Network, world: World) -> None:
    filters, single = (begun(FlPqsu(density=0.05, structured=x), network, world).mask for x in (True, False))
    assert filters is not None
    assert single is not None
    assert single.equals(magnitude_mask(network, 0.05))
    assert filters.kept <= 0.05 * filters.size
    for name, keep in filters.keep.items():
        rows = keep.flatten(1)
        assert (rows.sum(1) > 0).sum() < len(rows) or "shortcut" in name
        norms = network.weights[name].abs().flatten(1).sum(1)
        if "stages.0.0.conv1" in name:  # all its inputs are there
            assert rows.sum(1).argmax() == norms.argmax()
            assert set(rows.sum(1).tolist()) == {0, 36}
    with pytest.raises(ValueError, match=r"the least density is 0\.0"):
        FlPqsu(density=0.01).check(network, np.random.default_rng(0))
    FlPqsu(density=0.01, structured=False).check(network, np.random.default_rng(0))


def uploads(network: Network, state: ServerState, *losses: float | None) -> Iterator[Upload]:
    """Client k sends weights that are all k + 1, of k + 1 examples, or nothing at a loss of 9."""
    layout = Layout({name: x.shape for name, x in network.weights.items()}, frozenset(network.prunable))
    packing = Packing.of(layout, state.mask)
    for k, loss in enumerate(losses):
        values = torch.full((packing.size,), k + 1.0)
        yield Upload(k, k + 1, 9.0 if loss is None else loss, None if loss is None else values, packing)


def test_who_keeps_back_does_not_count_and_the_least_losses_are_remembered(network: Network, world: World) -> None:
    method = FlPqsu(density=0.05)
    state = begun(method, network, world)
    order = method.order(network, state, TRAINING)
    assert order.personal == {}  # whoever never sent anything has no limit
    state = method.absorb(network, state, uploads(network, state, 0.5, None, 0.25), Mean().fold())
    assert state.weights["head.bias"].tolist() == [2.5] * 4  # (1 * 1 + 3 * 3) / 4
    assert state.memory["least_losses"].tolist() == [0.5, torch.inf, 0.25]
    order = method.order(network, state, TRAINING)
    assert {k: own.limit for k, own in order.personal.items()} == {0: 0.5, 2: 0.25}
    after = method.absorb(network, state, uploads(network, state, None, None, None), Mean().fold())
    assert after.weights is state.weights
    assert after.round == state.round + 1
    assert after.memory["least_losses"].equal(state.memory["least_losses"])


def test_a_client_whose_loss_does_not_fall_sends_nothing_and_a_limit_costs_4_bytes(
    network: Network, world: World
) -> None:
    method, fleet = FlPqsu(density=0.05), federation(world, network)
    state = begun(method, network, world)
    order = method.order(network, state, TRAINING)
    sent = list(fleet.ask(order, range(3)))
    packing = sent[0].packing
    assert [x.sent_bytes for x in sent] == [12 + Quantised().size(packing)] * 3
    assert Quantised().size(packing) < Exact().size(packing)
    state = method.absorb(network, state, sent, Mean().fold())
    fleet.take()
    free = list(fleet.ask(replace(method.order(network, state, TRAINING), personal={}), range(3)))
    plain = fleet.take().download_bytes
    # As if client 1 had once been better than it can be.
    losses = state.memory["least_losses"].clone()
    losses[1] = 0.0
    state = replace(state, memory={"least_losses": losses})
    second = {x.client: x for x in fleet.ask(method.order(network, state, TRAINING), range(3))}
    assert fleet.take().download_bytes == plain + 3 * 4
    assert second[1].values is None
    assert second[1].sent_bytes == 12
    for k in (0, 2):
        assert (second[k].values is None) == (free[k].loss >= losses[k])


def test_only_what_is_asked_for(network: Network, world: World) -> None:
    plain = FlPqsu(density=0.05, structured=False, bits=None, selective=False)
    state = begun(plain, network, world)
    order = plain.order(network, state, TRAINING)
    assert (order.codec, dict(order.personal), dict(state.memory)) == (Exact(), {}, {})
    assert plain.remarks(10) == ()
    assert plain.grain(network) == len(network.prunable)
    coarse = FlPqsu(density=0.05, bits=4)
    assert coarse.order(network, begun(coarse, network, world), TRAINING).codec == Quantised(bits=4)


@pytest.mark.parametrize("aggregation", ["median", "{name: trimmed_mean, trim: 0.4}", "{name: krum, liars: 0}"])
def test_a_robust_aggregation_is_refused_where_too_few_may_send(aggregation: str) -> None:
    words = [f"aggregation={aggregation}", "method={name: fl_pqsu, density: 0.2}"]
    told = "clients of fl_pqsu so set may keep their weights back, and fewer than the 3 that .* needs may be left"
    with pytest.raises(ConfigError, match=told):
        prepare(load([SMOKE], words))
    prepare(load([SMOKE], [*words, "method.selective=false"]))


def test_a_run_sends_less_and_less(make_run: Runner) -> None:
    quantised = make_run("method={name: fl_pqsu, density: 0.2}", "rounds=3")
    exact = make_run("method={name: fl_pqsu, density: 0.2, bits: null, selective: false}", "rounds=3", folder="exact")
    assert quantised.records[0].upload_bytes < 0.5 * exact.records[0].upload_bytes
    assert all(x.upload_bytes <= quantised.records[0].upload_bytes for x in quantised.records)
