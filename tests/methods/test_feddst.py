"""FedDST: the mask vote by hand, and whole federations."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from fedtiny.__main__ import main
from fedtiny.client.world import World
from fedtiny.config.load import ConfigError, load
from fedtiny.methods import FedDST, FedSGC
from fedtiny.methods.aggregation import Mean
from fedtiny.methods.base import ServerState
from fedtiny.methods.readjusting import Readjusting, owned, reprune
from fedtiny.payload.messages import Upload
from fedtiny.payload.packing import Layout, Packing
from fedtiny.payload.training import Training
from fedtiny.prepare import prepare
from fedtiny.sparse.allocate import Erk
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network
from tests.conftest import SMOKE, Runner, federation

LAYOUT = Layout({"w": torch.Size([6])}, frozenset({"w"}))
TRAINING = Training(epochs=2, batch=16)
BOTH = [FedDST(density=0.2, adjust_every=2, stop_round=8), FedSGC(density=0.2, adjust_every=2, stop_round=8)]
each = pytest.mark.parametrize("method", BOTH, ids=["feddst", "fedsgc"])


def upload(client: int, examples: int, **w: float) -> Upload:
    """A client that keeps some of six weights: `_2=0.5` is 0.5 at place 2."""
    weights, keep = torch.zeros(6), torch.zeros(6, dtype=torch.bool)
    for place, value in w.items():
        weights[int(place[1:])], keep[int(place[1:])] = value, True
    mask = Mask({"w": keep})
    packing = Packing.of(LAYOUT, mask)
    return Upload(client, examples, 0.5, packing.pack({"w": weights}), packing, mask=mask)


def voted(*uploads: Upload) -> tuple[list[int], list[float]]:
    before = Mask({"w": tensor([True, True, True, False, False, False])})
    owners = owned(uploads)
    weights = owners.result()
    mask = reprune(before, weights, owners.votes, ["w"])
    mask.apply_(weights)
    return mask.keep["w"].nonzero().flatten().tolist(), weights["w"].tolist()


def test_the_vote_of_three_clients_by_hand() -> None:
    """Each keeps three of six weights: all began with 0, 1 and 2."""
    places, weights = voted(
        upload(0, 1, _0=1.0, _1=0.25, _3=0.5),  # dropped 2, grew 3
        upload(1, 2, _0=2.0, _2=-0.5, _3=-1.0),  # dropped 1, grew 3
        upload(2, 5, _0=3.0, _1=-0.25, _4=0.75),  # dropped 2, grew 4
    )
    # Means over owners: 0: (1 + 4 + 15) / 8 = 2.5; 1: (0.25 - 1.25) / 6 = -1/6; 2: -0.5; 3: (0.5 - 2) / 3 = -0.5;
    # 4: 0.75, of one client alone and not shrunk; 5: nobody's. Union 0, 1, 2, 3, 4; the largest three are 0, 4 and,
    # of the equals 2 (two votes) and 3 (three votes), 3.
    assert places == [0, 3, 4]
    assert weights == [2.5, 0.0, 0.0, -0.5, 0.75, 0.0]


def test_equal_magnitudes_and_votes_go_by_index() -> None:
    places, _ = voted(upload(0, 4, _0=1.0, _3=0.5, _5=-0.5), upload(1, 4, _0=1.0, _2=-0.5, _4=0.5))
    assert places == [0, 2, 3]


def test_zeros_that_were_just_grown_go_by_votes_before_the_index() -> None:
    places, _ = voted(upload(0, 4, _0=1.0, _3=0.0, _5=0.0), upload(1, 4, _0=1.0, _4=0.0, _5=0.0))
    assert places == [0, 3, 5]


def test_nothing_from_outside_the_union_comes_in() -> None:
    places, weights = voted(upload(0, 1, _1=0.0, _2=0.0, _5=0.0))
    assert places == [1, 2, 5]
    assert weights == [0.0] * 6


one_client = st.tuples(
    st.integers(1, 9),
    st.permutations(range(6)),
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=3, max_size=3),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(one_client, min_size=1, max_size=5), st.randoms())
def test_the_vote_is_that_of_a_naive_loop_in_any_order(
    clients: list[tuple[int, list[int], list[float]]], random: object
) -> None:
    assert hasattr(random, "shuffle")
    sent = [dict(zip(places[:3], values, strict=True)) for _, places, values in clients]
    uploads = [
        upload(i, n, **{f"_{place}": x for place, x in sent[i].items()}) for i, (n, _, _) in enumerate(clients)
    ]  # fmt: skip
    rank = {}
    for j in range(6):
        own = [(n, sent[i][j]) for i, (n, _, _) in enumerate(clients) if j in sent[i]]
        votes = sum(n for n, _ in own)
        if own:
            rank[j] = (-abs(float(np.float32(sum(n * x for n, x in own) / votes))), -votes, j)
    expected = sorted(sorted(rank, key=lambda j: rank[j])[:3])
    for _ in range(3):
        assert voted(*uploads)[0] == expected
        random.shuffle(uploads)


def federate(method: Readjusting, network: Network, world: World, rounds: int) -> list[ServerState]:
    fleet = federation(world, network, 3)
    states = [method.begin(network, fleet, np.random.default_rng(0))]
    for _ in range(rounds):
        order = method.order(network, states[-1], TRAINING)
        states.append(method.absorb(network, states[-1], fleet.ask(order, range(3)), Mean().fold()))
    return states


@each
def test_it_begins_with_a_magnitude_mask_of_erk(network: Network, world: World, method: Readjusting) -> None:
    state = method.begin(network, federation(world, network, 3), np.random.default_rng(0))
    counts = Erk().counts(network.prunable, 0.2, np.random.default_rng(0))
    assert state.mask is not None
    for name, keep in state.mask.keep.items():
        assert int(keep.sum()) == counts[name]
        magnitudes = network.weights[name].abs()
        if not keep.all():
            assert magnitudes[keep].min() >= magnitudes[~keep].max()


@each
def test_adjusting_rounds_move_masks_and_no_others_do(network: Network, world: World, method: Readjusting) -> None:
    states = federate(method, network, world, 10)
    first = states[0].mask
    assert first is not None
    for before, after in itertools.pairwise(states):
        assert before.mask is not None
        assert after.mask is not None
        r, order = before.round, method.order(network, before, TRAINING)
        if r not in (2, 4, 6):  # 8 is stop_round
            assert order.adjust is None
            assert order.signs is None
            assert after.mask is before.mask
            continue
        assert order.adjust is not None
        assert order.adjust.after_epochs == 1
        assert not after.mask.equals(before.mask)
        for name, keep in after.mask.keep.items():
            count = int(0.15 * (1 + np.cos(np.pi * r / 8)) * int(keep.sum()))
            room = min(count, int((~keep).sum()), int(keep.sum()) - 1)
            assert order.adjust.count.get(name, 0) == room
            assert int(keep.sum()) == int(first.keep[name].sum())
            assert int((keep & ~before.mask.keep[name]).sum()) <= 3 * room
            assert not after.weights[name][~keep].any()
    assert states[10].mask is not None
    assert states[10].mask.density <= 0.2


def test_the_round_is_the_vote_of_what_clients_sent(network: Network, world: World) -> None:
    method = BOTH[0]
    state = federate(method, network, world, 2)[-1]
    fleet = federation(world, network, 3)
    uploads = list(fleet.ask(method.order(network, state, TRAINING), range(3)))
    masks = [x.mask for x in uploads]
    assert all(mask is not None for mask in masks)
    assert not all(mask.equals(masks[0]) for mask in masks if mask is not None)
    after = method.absorb(network, state, uploads, Mean().fold())
    assert after.mask is not None
    total = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in network.prunable.items()}
    votes = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in network.prunable.items()}
    for x in uploads:
        assert x.mask is not None
        assert x.weights is not None
        for name in total:
            total[name] += x.examples * x.weights[name].double()
            votes[name] += x.examples * x.mask.keep[name]
    for name in total:
        keep = after.mask.keep[name]
        mean = total[name] / votes[name].clamp(min=1)
        assert (votes[name][keep] > 0).all()
        torch.testing.assert_close(after.weights[name][keep].double(), mean[keep], rtol=1e-6, atol=1e-9)
        rejected = (votes[name] > 0) & ~keep
        if rejected.any() and keep.any():
            assert mean[keep].abs().min() >= mean[rejected].abs().max() * (1 - 1e-6)


def test_layers_that_are_dense_are_left_alone(network: Network, world: World) -> None:
    method = FedDST(density=0.5, adjust_every=1, stop_round=9)
    state = federate(method, network, world, 1)[-1]
    assert state.mask is not None
    dense = {name for name, keep in state.mask.keep.items() if keep.all()}
    assert dense
    order = method.order(network, state, TRAINING)
    assert order.adjust is not None
    assert not dense & set(order.adjust.count)


@each
def test_fraction_0_never_moves_a_mask(network: Network, world: World, method: Readjusting) -> None:
    states = federate(method.model_copy(update={"fraction": 0.0, "adjust_every": 1}), network, world, 2)
    assert states[2].mask is states[0].mask


@pytest.mark.parametrize(
    ("epochs", "fine_tune", "after"), [(1, None, 1), (2, None, 1), (5, None, 4), (5, 3, 2), (5, 0, 5)]
)
def test_when_the_mask_moves(network: Network, epochs: int, fine_tune: int | None, after: int) -> None:
    method = FedDST(density=0.2, adjust_every=1, fine_tune_epochs=fine_tune)
    state = replace(method.sketch(network, np.random.default_rng(0)), round=1)
    order = method.order(network, state, Training(epochs=epochs))
    assert order.adjust is not None
    assert order.adjust.after_epochs == after


@each
def test_an_impossible_number_of_epochs_is_told_before_the_run(method: Readjusting) -> None:
    config = load(
        [SMOKE], [f"method={{name: {type(method).__name__.lower()}, fine_tune_epochs: 3}}", "training.epochs=3"]
    )
    with pytest.raises(ConfigError, match=r"method: fine_tune_epochs must be below training.epochs \(3\), .*, got 3"):
        prepare(config)
    # Nor does it spoil what is said of devices, whose memory is found by making such orders.
    small = config.model_copy(update={"devices": load([SMOKE], ["devices={classes: {a: {memory_bytes: 9}}}"]).devices})
    with pytest.raises(ConfigError, match="fine_tune_epochs must be below"):
        prepare(small)


def told(*overrides: str) -> list[str]:
    lines: list[str] = []
    prepare(load([SMOKE], ["method.name=feddst", "engine=dense", *overrides]), lines.append)
    return [line for line in lines if line.startswith("note: ")]


def test_what_a_user_should_know_is_told() -> None:
    plain = ["method.density=0.2", "method.adjust_every=1", "training.epochs=2"]
    assert told(*plain) == []
    (note,) = told(*plain, "training.epochs=1")
    assert "not trained before the server votes on it" in note
    (note,) = told(*plain, "method.adjust_every=50")
    assert "the mask never moves: no round before method.stop_round (100) and rounds (4) is a multiple" in note
    (note,) = told(*plain, "method.density=1")
    assert "method.density is 1" in note
    assert told(*plain, "method.fraction=0", "training.epochs=1") == []


def test_another_aggregation_is_refused() -> None:
    with pytest.raises(ConfigError, match="feddst aggregates in a way of its own, so it must be mean, got median"):
        prepare(load([SMOKE], ["method.name=feddst", "aggregation=median"]))


@each
def test_devices_in_the_field_play_it(make_run: Runner, method: Readjusting) -> None:
    settings = method.model_copy(update={"adjust_every": 1}).model_dump(mode="json")
    result = make_run(f"method={json.dumps(settings)}", "training.epochs=2", "devices={classes: {phone: {}}}")
    assert all(x.simulated_seconds is not None and x.simulated_seconds > 0 for x in result.records)
    assert sum(bool(x.exchanged) for x in result.records) == 3
    adjusting, last = result.records[1], result.records[0]
    assert adjusting.upload_bytes > last.upload_bytes
    assert adjusting.flops["rigl"] > last.flops["rigl"]
    assert adjusting.memory_bytes > last.memory_bytes


@each
def test_a_run_that_was_broken_off_goes_on_to_the_same_bits(tmp_path: Path, method: Readjusting) -> None:
    settings = method.model_copy(update={"adjust_every": 1}).model_dump(mode="json")
    words = [str(SMOKE), f"method={json.dumps(settings)}", "training.epochs=2", "rounds=5", "clients=4", "cohort=2"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for out in (whole, broken):
        assert main(["run", *words, f"out={out}"]) == 0
    (broken / "summary.json").unlink()
    (broken / "checkpoints" / "000005.safetensors").unlink()
    assert main(["resume", str(broken)]) == 0
    a, b = (json.loads((out / "summary.json").read_text()) for out in (whole, broken))
    for key in ("weights_sha256", "upload_bytes", "download_bytes"):
        assert a[key] == b[key]
    rounds = [(out / "rounds.jsonl").read_text().splitlines()[4] for out in (whole, broken)]
    first, second = ({k: v for k, v in json.loads(line).items() if k != "seconds"} for line in rounds)
    assert first == second
