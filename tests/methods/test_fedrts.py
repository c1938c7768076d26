"""FedRTS: the Beta update by hand, draws, and whole rounds."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, tensor

from fedtiny import seeds
from fedtiny.client.world import World
from fedtiny.methods import FedRTS
from fedtiny.methods.aggregation import Mean
from fedtiny.methods.base import ServerState
from fedtiny.methods.beliefs import Beliefs
from fedtiny.payload.messages import Upload
from fedtiny.payload.packing import Layout, Packing
from fedtiny.payload.probes import Indices, TopIndices
from fedtiny.payload.training import Training
from fedtiny.server.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fedtiny.server.fingerprint import fingerprint
from fedtiny.server.ledger import Ledger, Traffic
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network
from tests.conftest import federation

TRAINING = Training(epochs=1, batch=16)
LAYOUT = Layout({"w": torch.Size([8]), "b": torch.Size([1])}, frozenset({"w"}))
MASK = Mask({"w": tensor([True] * 4 + [False] * 4)})


def upload(client: int, examples: int, kept: list[float], place: int | None) -> Upload:
    answers = () if place is None else (Indices({"w": tensor([place])}),)
    return Upload(client, examples, 0.5, tensor([*kept, 7.0]), Packing.of(LAYOUT, MASK), answers)


def two(places: tuple[int, int] | tuple[None, None]) -> list[Upload]:
    return [upload(0, 3, [4.0, -3.0, 2.0, 1.0], places[0]), upload(1, 1, [1.0, 2.0, -3.0, 4.0], places[1])]


def state_before(round: int) -> ServerState:
    memory = {"seed": tensor(11), "alpha/w": torch.ones(8), "beta/w": torch.ones(8)}
    return ServerState(round, {"w": torch.zeros(8), "b": torch.zeros(1)}, MASK, memory)


METHOD = FedRTS(density=0.5, adjust_every=2, stop_round=4, fraction=0.25, gamma=0.25, strength=10)


def test_two_rounds_of_two_clients_by_hand(network: Network) -> None:
    """Of K = 4, int(0.25 (1 + cos(pi / 4)) 4) = int(0.25 (1 + cos(pi / 2)) 4) = 1 is not among the best: kappa = 3."""
    one = METHOD.absorb(network, state_before(1), two((None, None)), Mean().fold())
    # The first client, of 3 examples in 4, has places 0, 1, 2 among its three largest; the other 1, 2, 3. The aggregate
    # is (3.25, -1.75, 0.75, 1.75): 0, 1, 3. X = 0.25 X_agg + 0.75 (3/4 X_1 + 1/4 X_2).
    x = tensor([0.8125, 1.0, 0.75, 0.4375])
    assert one.memory["alpha/w"].tolist() == [*(1 + 10 * x).tolist(), 1, 1, 1, 1]
    assert one.memory["beta/w"].tolist() == [*(1 + 10 * (1 - x)).tolist(), 1, 1, 1, 1]
    assert one.memory["alpha/w"].tolist() == [9.125, 11, 8.5, 5.375, 1, 1, 1, 1]
    assert one.mask is MASK
    assert one.round == 2
    two_rounds = METHOD.absorb(network, one, two((5, 6)), Mean().fold())
    # Of pruned weights X_agg is 0.5: X = 0.125 + 0.75 * (0, 3/4, 1/4, 0).
    assert two_rounds.memory["alpha/w"].tolist() == [17.25, 21, 16, 9.75, 2.25, 7.875, 4.125, 2.25]
    assert two_rounds.memory["beta/w"].tolist() == [4.75, 1, 6, 12.25, 9.75, 4.125, 7.875, 9.75]
    # The mask is that of the four largest draws, from a stream that the memory names.
    alpha, beta = (two_rounds.memory[f"{x}/w"].double().numpy() for x in ("alpha", "beta"))
    draws = seeds.stream(11, "fedrts", "w", "round", 2).beta(alpha, beta)
    assert two_rounds.mask is not None
    assert two_rounds.mask.keep["w"].nonzero().flatten().tolist() == sorted(np.argsort(-draws)[:4].tolist())
    # A dropped weight is 0, a new one starts at 0, the others are the aggregate's.
    aggregate = tensor([3.25, -1.75, 0.75, 1.75, 0, 0, 0, 0])
    assert two_rounds.weights["w"].equal(torch.where(two_rounds.mask.keep["w"], aggregate, 0.0))
    assert two_rounds.weights["b"].tolist() == [7.0]


@pytest.mark.parametrize(("gamma", "first"), [(1.0, [1, 1, 0, 1]), (0.0, [0.75, 1, 1, 0.25])])
def test_gamma_weighs_the_aggregate(network: Network, gamma: float, first: list[float]) -> None:
    method = METHOD.model_copy(update={"gamma": gamma})
    after = method.absorb(network, state_before(1), two((None, None)), Mean().fold())
    assert (after.memory["alpha/w"][:4] - 1).tolist() == [10 * x for x in first]


def test_nothing_is_learnt_once_the_mask_is_final(network: Network) -> None:
    before = state_before(4)
    after = METHOD.absorb(network, before, two((None, None)), Mean().fold())
    assert (after.round, after.mask, after.memory) == (5, MASK, before.memory)


def test_who_is_sure_draws_what_it_believes() -> None:
    sure = Beliefs({"w": tensor([1e6, 1.0, 1e6, 1.0])}, {"w": tensor([1.0, 1e6, 1.0, 1e6])})
    draws = sure.draw("w", np.random.default_rng(0))
    assert draws.dtype == torch.float64
    assert draws.tolist() == pytest.approx([1, 0, 1, 0], abs=1e-4)
    mean = Beliefs({"w": torch.full((20_000,), 3.0)}, {"w": torch.ones(20_000)}).draw("w", np.random.default_rng(0))
    assert float(mean.mean()) == pytest.approx(0.75, abs=0.01)  # alpha / (alpha + beta)


def begun(method: FedRTS, network: Network, world: World) -> tuple[Ledger, ServerState]:
    fleet = federation(world, network)
    return fleet, method.begin(network, fleet, np.random.default_rng(0))


def advance(method: FedRTS, network: Network, fleet: Ledger, state: ServerState, rounds: int) -> ServerState:
    for _ in range(rounds):
        order = method.order(network, state, TRAINING)
        state = method.absorb(network, state, fleet.ask(order, range(3)), Mean().fold())
    return state


def all_bits(state: ServerState) -> tuple[str, dict[str, list[float]]]:
    return fingerprint(state.weights, state.mask), {name: x.tolist() for name, x in state.memory.items()}


def test_only_indices_are_asked_for_and_each_layer_keeps_its_size(network: Network, world: World) -> None:
    method = FedRTS(density=0.1, adjust_every=2, stop_round=6)
    fleet, state = begun(method, network, world)
    for r in range(7):
        order, before = method.order(network, state, TRAINING), state
        state = advance(method, network, fleet, state, 1)
        assert before.mask is not None
        assert state.mask is not None
        if r not in (2, 4):
            assert order.probes == ()
            assert state.mask is before.mask
            continue
        (probe,) = order.probes
        assert isinstance(probe, TopIndices)
        assert not state.mask.equals(before.mask)
        for name, keep in state.mask.keep.items():
            assert keep.sum() == before.mask.keep[name].sum()
            assert not state.weights[name][keep & ~before.mask.keep[name]].any()
            assert not state.weights[name][~keep].any()


def test_beliefs_do_not_depend_on_who_answers_first(network: Network, world: World) -> None:
    method = FedRTS(density=0.1, adjust_every=1)
    fleet, state = begun(method, network, world)
    state = advance(method, network, fleet, state, 1)
    uploads = list(fleet.ask(method.order(network, state, TRAINING), range(3)))
    first, *others = (
        all_bits(method.absorb(network, state, line, Mean().fold())) for line in itertools.permutations(uploads)
    )
    assert all(other == first for other in others)


def test_a_run_goes_on_from_its_checkpoint_to_the_bit(network: Network, world: World, tmp_path: Path) -> None:
    method = FedRTS(density=0.1, adjust_every=2)
    fleet, state = begun(method, network, world)
    half = advance(method, network, fleet, state, 2)
    save_checkpoint(tmp_path, Checkpoint(half, {}, Traffic(), 0.0, 0.0))
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert all_bits(found.state) == all_bits(half)
    whole, resumed = (advance(method, network, fleet, x, 3) for x in (half, found.state))
    assert all_bits(resumed) == all_bits(whole)


def test_other_seeds_draw_other_masks(network: Network) -> None:
    def drawn(seed: int) -> list[bool]:
        state = state_before(2)
        memory: dict[str, Tensor] = {**state.memory, "seed": tensor(seed)}
        after = METHOD.absorb(network, ServerState(2, state.weights, MASK, memory), two((5, 6)), Mean().fold())
        assert after.mask is not None
        kept: list[bool] = after.mask.keep["w"].tolist()
        return kept

    assert len({tuple(drawn(seed)) for seed in range(20)}) > 1
    assert drawn(3) == drawn(3)


def test_the_first_mask_is_the_papers_if_asked(network: Network, world: World) -> None:
    masks = [
        begun(FedRTS.model_validate({"density": 0.1, "score": score}), network, world)[1].mask
        for score in ("magnitude", "random")
    ]
    assert masks[0] is not None
    assert masks[1] is not None
    assert masks[0].densities() == masks[1].densities()
    assert not masks[0].equals(masks[1])


def test_what_a_schedule_comes_to_is_told() -> None:
    assert "the mask never moves" in FedRTS(adjust_every=10, stop_round=10).remarks(50)[0]
    assert FedRTS(adjust_every=10).remarks(50) == ()


def test_a_density_that_cannot_be_had_is_found_before_anything_runs(network: Network) -> None:
    with pytest.raises(ValueError, match="the least density is"):
        FedRTS(density=0.0005).check(network, np.random.default_rng(0))
