"""LotteryFL: tickets by hand, rewinding on held-out data, owners' means, and the form with one mask."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from fedtiny.client.client import Client
from fedtiny.client.world import World
from fedtiny.config.load import ConfigError
from fedtiny.methods import LotteryFL
from fedtiny.methods.aggregation import Mean
from fedtiny.methods.base import ServerState
from fedtiny.methods.lotteryfl import prune
from fedtiny.payload.messages import Upload
from fedtiny.payload.packing import Layout, Packing
from fedtiny.payload.probes import Accuracy, LocalAccuracy
from fedtiny.payload.training import Training
from fedtiny.sparse.allocate import Uniform
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Prunable
from tests.conftest import Runner, federation

TRAINING = Training(epochs=1, batch=16)
LAYER = "stages.0.0.conv1.weight"  # 144 weights


def begun(method: LotteryFL, network: Network, clients: int = 2) -> ServerState:
    state = method.sketch(network, np.random.default_rng(0))
    memory = dict(state.memory)
    if method.personal:
        memory |= {
            "unfinished": torch.ones(clients, dtype=torch.bool),
            "rewound": torch.zeros(clients, dtype=torch.bool),
        }
    return replace(state, memory=memory)


def sent(network: Network, state: ServerState, method: LotteryFL, client: int, value: float, *said: Accuracy) -> Upload:
    """A client's upload of weights `value` wherever it keeps one, of client + 1 examples."""
    layout = Layout({name: x.shape for name, x in network.weights.items()}, frozenset(network.prunable))
    packing = Packing.of(layout, method.order(network, state, TRAINING).of(client).mask)
    return Upload(client, client + 1, 1.0, torch.full((packing.size,), value), packing, said)


@pytest.mark.parametrize(
    ("rate", "least", "kept"),
    [
        (0.2, 1, [2, 3, 4, 7]),  # of six a fifth, 1.2, rounded up: 0.1 and 0.2 go
        (0.2, 5, [2, 3, 4, 6, 7]),
        (0.2, 7, [2, 3, 4, 5, 6, 7]),  # there are fewer than that: nothing goes
        (1.0, 2, [2, 4]),
    ],
)
def test_pruning_by_hand(rate: float, least: int, kept: list[int]) -> None:
    """The first two are pruned already, whatever their magnitude."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(1, 8, bias=False), nn.Linear(8, 1))
    network = Network.of(module, (1, 1, 1), Prunable(first_layer=True))
    weight = torch.tensor([5.0, -0.3, 0.9, 0.4, -0.8, 0.1, 0.2, 0.5]).view(8, 1)
    mask = Mask({"1.weight": torch.tensor([0, 0, 1, 1, 1, 1, 1, 1]).bool().view(8, 1)})
    pruned = prune(network, mask, {"1.weight": weight}, {"1.weight": least}, rate).keep["1.weight"]
    assert pruned.flatten().nonzero().flatten().tolist() == kept


def test_who_is_accurate_enough_on_what_it_held_out_prunes_and_starts_again(network: Network) -> None:
    method = LotteryFL(density=0.1, accuracy=0.5, rate=0.2)
    state = begun(method, network)
    order = method.order(network, state, TRAINING)
    assert order.probes == (LocalAccuracy(),)
    assert order.holdout == 0.2
    assert order.personal == {}
    one = sent(network, state, method, 0, 1.0, Accuracy(5, 10))
    other = sent(network, state, method, 1, 4.0, Accuracy(4, 10))
    state = method.absorb(network, state, [one, other], Mean().fold())
    assert state.mask is None
    assert state.weights[LAYER].unique().tolist() == [3.0]  # (1 * 1 + 2 * 4) / 3
    # Client 0 was right in half: 20 % of 144, 28.8, rounded up, go; ties to the lower index stay. Client 1 was not.
    order = method.order(network, state, TRAINING)
    assert order.personal.keys() == {0}
    mask = order.personal[0].mask
    assert mask is not None
    assert mask.keep[LAYER].flatten().tolist() == [True] * 115 + [False] * 29
    # It starts from the initial weights under its mask, with the statistics of now; client 1 from the mean.
    first, second = order.of(0), order.of(1)
    keep = mask.keep[LAYER]
    assert first.weights[LAYER].equal(network.weights[LAYER] * keep)
    assert first.weights["head.bias"].equal(network.weights["head.bias"])
    assert first.weights["stem.1.running_var"].equal(state.weights["stem.1.running_var"])
    assert second.weights is state.weights
    assert method.models(network, state)[0].mask is not None
    assert method.models(network, state)[1].mask is None
    # The accuracy of rewound weights says nothing; the next one counts.
    for said, kept in ((Accuracy(10, 10), 115), (Accuracy(10, 10), 92), (Accuracy(10, 10), 92)):
        state = method.absorb(network, state, [sent(network, state, method, 0, 2.0, said)], Mean().fold())
        told = method.models(network, state)[0].mask
        assert told is not None
        assert int(told.keep[LAYER].sum()) == kept
    assert not method.order(network, state, TRAINING).of(0).weights[LAYER].equal(first.weights[LAYER])


def test_the_mean_is_over_owners_and_what_nobody_owns_stays(network: Network) -> None:
    method = LotteryFL(density=0.1, accuracy=0.0, rate=0.5, rewind=False)
    state = begun(method, network)
    state = method.absorb(network, state, [sent(network, state, method, 0, 1.0, Accuracy(0, 1))], Mean().fold())
    assert state.memory["rewound"].any().item() is False
    # Client 0 keeps the first 72 of the layer; alone, the others stay as they were.
    alone = method.absorb(network, state, [sent(network, state, method, 0, 5.0)], Mean().fold())
    assert alone.weights[LAYER].flatten().tolist() == [5.0] * 72 + [1.0] * 72
    both = [sent(network, state, method, 0, 5.0), sent(network, state, method, 1, 2.0)]
    for uploads in (both, both[::-1]):
        mean = method.absorb(network, state, uploads, Mean().fold()).weights[LAYER].flatten()
        assert mean.tolist() == [3.0] * 72 + [2.0] * 72  # (1 * 5 + 2 * 2) / 3
    # Its own model has none of what it does not keep.
    assert not method.models(network, alone)[0].masked[LAYER].flatten()[72:].any()


def test_pruning_ends_at_the_density_and_then_nothing_is_held_out(network: Network) -> None:
    method = LotteryFL(density=0.1, accuracy=0.0, rate=0.5)
    state = begun(method, network, clients=1)
    least = Uniform().counts(network.prunable, 0.1, np.random.default_rng(0))
    for participation in range(8):
        order = method.order(network, state, TRAINING)
        finished = not state.memory["unfinished"].any()
        assert (order.holdout, order.probes) == ((0.0, ()) if finished else (0.2, (LocalAccuracy(),)))
        said = () if finished else (Accuracy(1, 1),)
        state = method.absorb(network, state, [sent(network, state, method, 0, 1.0, *said)], Mean().fold())
        # 1/2, rewound, 1/4, rewound, 1/8, rewound, then 1/10
        assert finished == (participation > 6)
    mask = method.models(network, state)[0].mask
    assert mask is not None
    assert {name: int(keep.sum()) for name, keep in mask.keep.items()} == least


def test_none_of_none_is_no_accuracy(network: Network) -> None:
    method = LotteryFL(density=0.1, accuracy=0.0)
    state = begun(method, network)
    state = method.absorb(network, state, [sent(network, state, method, 0, 1.0, Accuracy(0, 0))], Mean().fold())
    assert method.order(network, state, TRAINING).personal == {}


def test_clients_train_their_own_ticket_only(network: Network, world: World) -> None:
    method, fleet = LotteryFL(density=0.05, accuracy=0.0, rate=0.9), federation(world, network)
    state = method.begin(network, fleet, np.random.default_rng(0))
    for _ in range(4):
        order = method.order(network, state, TRAINING)
        uploads = list(fleet.ask(order, range(3)))
        for upload in uploads:
            mine = order.of(upload.client)
            alone = Client(world).carry_out(mine, upload.client).values
            assert upload.values is not None
            assert alone is not None
            assert upload.values.equal(alone)
        state = method.absorb(network, state, uploads, Mean().fold())
    masks = [own.mask for own in method.models(network, state).values()]
    assert len(masks) == 3
    assert all(mask is not None and mask.density <= 0.05 for mask in masks)


def test_one_mask_for_all_is_pruned_on_schedule(network: Network) -> None:
    method = LotteryFL(density=0.1, personal=False, adjust_every=2, stop_round=5)
    assert [round(method.ceiling(r), 10) for r in range(8)] == [1, 1, 0.64, 0.64, 0.28, 0.1, 0.1, 0.1]
    state = begun(method, network)
    assert state.memory == {}
    assert method.order(network, state, TRAINING).probes == ()
    ramp = torch.arange(144.0)
    for r in range(7):
        before = state
        layout = Layout({name: x.shape for name, x in network.weights.items()}, frozenset(network.prunable))
        packing = Packing.of(layout, state.mask)
        weights = dict(network.weights) | {LAYER: ramp.view(4, 4, 3, 3)}
        upload = Upload(0, 1, 1.0, packing.pack(weights), packing)
        state = method.absorb(network, state, [upload], Mean().fold())
        density = method.ceiling(r + 1)
        if density == 1:
            assert state.mask is None
            continue
        assert state.mask is not None
        if method.ceiling(r) == density:
            assert state.mask is before.mask
            continue
        assert state.mask.kept == sum(Uniform().counts(network.prunable, density, np.random.default_rng(0)).values())
        keep = state.mask.keep[LAYER].flatten()
        assert keep.nonzero().flatten().tolist() == list(range(144 - int(keep.sum()), 144))  # the largest
        assert state.weights[LAYER].flatten().equal(ramp * keep)
    rewinding = method.model_copy(update={"rewind": True})
    state = replace(begun(rewinding, network), round=1)
    upload = sent(network, state, rewinding, 0, 3.0)
    after = rewinding.absorb(network, state, [upload], Mean().fold())
    assert after.mask is not None
    assert after.weights[LAYER].equal(network.weights[LAYER] * after.mask.keep[LAYER])
    assert after.weights["stem.1.running_mean"].unique().tolist() == [3.0]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"personal": False, "rate": 0.5},
            "rate means nothing with personal=false; set personal=true, or leave out rate",
        ),
        ({"stop_round": 5, "adjust_every": 2}, "adjust_every means nothing with personal=true"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        LotteryFL.model_validate(settings)


def test_what_a_user_should_know() -> None:
    own, late = LotteryFL(density=0.1).remarks(20)
    assert "not to be compared" in own
    assert "11 prunings take 21; raise rounds" in late  # 0.8 ** 11 is 0.086
    assert len(LotteryFL(density=0.1).remarks(22)) == 1
    assert "11 prunings take 11" in LotteryFL(density=0.1, rewind=False).remarks(11)[1]
    shared = LotteryFL(personal=False, stop_round=10)
    assert shared.remarks(11) == ()
    assert "is reached by the last round, and never trained at" in shared.remarks(10)[0]
    assert "is never reached" in shared.remarks(9)[0]


def test_it_aggregates_in_a_way_of_its_own(make_run: Runner) -> None:
    with pytest.raises(ConfigError, match="lotteryfl aggregates in a way of its own, so it must be mean"):
        make_run("method={name: lotteryfl}", "aggregation=median")
    make_run("method={name: lotteryfl, personal: false, stop_round: 2}", "aggregation=median", "rounds=1", folder="all")
