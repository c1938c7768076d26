"""PruneFL: the greedy ratio and the protected core by hand, and whole rounds in both modes."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, tensor

from fedtiny.client.world import World
from fedtiny.methods import PruneFL
from fedtiny.methods.aggregation import Mean
from fedtiny.methods.base import ServerState
from fedtiny.methods.prunefl import mean_squares
from fedtiny.methods.reconfigure import Adaptive, Fixed, Moment, RoundTime, greedy, protected
from fedtiny.payload.messages import Order
from fedtiny.payload.probes import SquaredGradients, Squares
from fedtiny.payload.training import Training
from fedtiny.sparse.activations import Activations
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Layer, Network
from tests.conftest import federation

TRAINING = Training(epochs=1, batch=16)


def mask_of(**kept: str) -> Mask:
    return Mask({name: tensor([char == "1" for char in bits]) for name, bits in kept.items()})


def moment(mask: Mask, weights: dict[str, list[float]], squares: dict[str, list[float]], budget: int) -> Moment:
    return Moment(
        mask,
        {name: tensor(x) for name, x in weights.items()},
        {name: tensor(x, dtype=torch.float64) for name, x in squares.items()},
        round=10,
        stop=40,
        budget=budget,
    )


@pytest.mark.parametrize(
    ("room", "joining"), [(5, [0, 1, 0, 1, 1]), (3, [0, 1, 0, 1, 1]), (2, [0, 1, 0, 0, 1]), (0, [0, 0, 0, 0, 0])]
)
def test_who_exceeds_gamma_joins_and_raises_it(room: int, joining: list[int]) -> None:
    # Gamma is 4 / 2 = 2 at first. The ratios are 2.36, 3, 0, 2.4 and 2.5.
    # 3 > 2: 7 / 3 = 2.333. 2.5 > 2.333: 9.5 / 4 = 2.375. 2.4 > 2.375: 10.7 / 4.5 = 2.378. 2.36 does not exceed that.
    squares = tensor([2.36, 3.0, 0.0, 1.2, 2.5], dtype=torch.float64)
    seconds = tensor([1.0, 1.0, 1.0, 0.5, 1.0], dtype=torch.float64)
    assert greedy(4.0, 2.0, squares, seconds, room).int().tolist() == joining


def test_equals_take_the_lower_place_and_no_gradient_never_joins() -> None:
    ones = torch.ones(4, dtype=torch.float64)
    assert greedy(0.0, 1.0, ones, ones, 2).int().tolist() == [1, 1, 0, 0]
    assert not greedy(0.0, 1.0, 0 * ones, ones, 4).any()
    # A second's gain equal to what there is gains nothing.
    assert not greedy(1.0, 1.0, ones, ones, 4).any()


positive = st.floats(0.01, 100.0)


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 100), positive, st.lists(st.tuples(positive, positive), min_size=1, max_size=7))
def test_no_choice_of_candidates_has_a_larger_gamma(
    core_squares: float, core_s: float, candidates: list[tuple[float, float]]
) -> None:
    squares, seconds = (tensor(x, dtype=torch.float64) for x in zip(*candidates, strict=True))

    def gamma(chosen: torch.Tensor) -> float:
        return float((core_squares + squares[chosen].sum()) / (core_s + seconds[chosen].sum()))

    everyone = [tensor(bits) for bits in itertools.product([False, True], repeat=len(candidates))]
    best = max(gamma(chosen) for chosen in everyone)
    assert gamma(greedy(core_squares, core_s, squares, seconds, len(candidates))) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize(
    ("share", "core"), [(0.0, "111101"), (0.19, "111101"), (0.45, "101001"), (0.6, "100001"), (1.0, "100000")]
)
def test_a_core_of_the_largest_weights_is_protected(share: float, core: str) -> None:
    keep = tensor([True, True, True, True, False, True])
    weight = tensor([0.5, -0.1, 0.3, -0.2, 0.0, 0.4])
    # Five are kept: 0, 0, 2, 3 and 5 may go, the last of them not: a layer is never emptied.
    assert "".join(str(int(x)) for x in protected(keep, weight, share)) == core


def two_layers() -> Network:
    """Layer a uses each weight once an example, layer b five times."""
    layers = (
        Layer("first.weight", (1, 1), 1, False, 0),
        Layer("a", (1, 6), 6, True, 1),
        Layer("b", (1, 4), 20, True, 2),
    )
    return Network(nn.Identity(), (1, 1, 1), layers, Activations(0, (), (), 0))


@pytest.mark.parametrize(("budget", "kept"), [(9, {"a": "111010", "b": "1010"}), (5, {"a": "111010", "b": "1000"})])
def test_a_reconfiguration_by_hand(budget: int, kept: dict[str, str]) -> None:
    mode = Adaptive(removable=0.6, time=RoundTime(fixed_s=1.0, sent_s=0.25, used_s=0.25))
    assert mode.time.per_weight_s(two_layers()) == {"a": 0.5, "b": 1.5}
    mask = mask_of(a="111100", b="1000")
    # Of a's four kept weights int(0.6 * 0.5^(10 / 10000) * 4) = 2 may go: the core is places 0 and 2, and b's only one.
    # Gamma = (1 + 1 + 1.5) / (1 + 2 * 0.5 + 1.5) = 1. In order of g^2 / t join a1 (6), a4 (4), b2 (4); then Gamma is
    # 14.5 / 6, and b1 (0.67), a3 (0.2) stay out.
    now = moment(
        mask,
        {"a": [0.5, -0.1, 0.3, -0.2, 0.0, 0.0], "b": [0.1, 0.0, 0.0, 0.0]},
        {"a": [1.0, 3.0, 1.0, 0.1, 2.0, 0.0], "b": [1.5, 1.0, 6.0, 0.0]},
        budget,
    )
    assert mode.remask(two_layers(), now).equals(mask_of(**kept))
    assert mask.equals(mask_of(a="111100", b="1000"))


def test_an_exchange_at_fixed_density_by_hand() -> None:
    mask = mask_of(a="111100", b="1000")
    now = moment(
        mask,
        {"a": [0.5, -0.1, 0.3, -0.2, 0.0, 0.0], "b": [0.1, 0.0, 0.0, 0.0]},
        {"a": [9.0, 9.0, 9.0, 9.0, 2.0, 3.0], "b": [9.0, 1.0, 6.0, 0.0]},
        5,
    )
    # 0.2 (1 + cos(pi / 4)) * 4 = 1.37: a's place 1 gives way to place 5. b's only weight stays.
    assert Fixed(fraction=0.2).remask(two_layers(), now).equals(mask_of(a="101101", b="1000"))


def test_squares_are_averaged_by_examples() -> None:
    one, two = Squares({"w": tensor([1.0, 2.0])}), Squares({"w": tensor([5.0, 0.0])})
    assert mean_squares([(1, one), (3, two)])["w"].tolist() == [4.0, 0.5]


def federate(method: PruneFL, network: Network, world: World, rounds: int) -> list[tuple[ServerState, Order]]:
    fleet = federation(world, network)
    state = method.begin(network, fleet, np.random.default_rng(0))
    seen = []
    for _ in range(rounds):
        order = method.order(network, state, TRAINING)
        seen.append((state, order))
        state = method.absorb(network, state, fleet.ask(order, range(3)), Mean().fold())
    return [*seen, (state, method.order(network, state, TRAINING))]


MODES = [Fixed(), Adaptive(), Adaptive(time=RoundTime(fixed_s=0.001))]


@pytest.mark.parametrize("mode", MODES, ids=["fixed", "adaptive", "adaptive-to-less"])
def test_dense_gradients_are_asked_for_in_adjusting_rounds_alone(
    network: Network, world: World, mode: Fixed | Adaptive
) -> None:
    method = PruneFL(density=0.1, adjust_every=2, stop_round=4, mode=mode)
    rounds = federate(method, network, world, 5)
    for (before, order), (after, _) in itertools.pairwise(rounds):
        assert before.mask is not None
        assert after.mask is not None
        if before.round != 2:
            assert order.probes == ()
            assert after.mask is before.mask
            continue
        assert order.probes == (SquaredGradients(layers=tuple(network.prunable)),)
        assert not after.mask.equals(before.mask)
        assert after.mask.kept <= 0.1 * after.mask.size
        for name, keep in after.mask.keep.items():
            assert keep.any()
            assert not after.weights[name][~keep].any()
            assert not after.weights[name][keep & ~before.mask.keep[name]].any()  # a grown weight starts at 0
            if mode.name == "fixed":
                assert keep.sum() == before.mask.keep[name].sum()


def test_an_adaptive_model_shrinks_where_its_weights_are_dear(network: Network, world: World) -> None:
    kept = []
    for fixed_s in (1e9, 1e-9):
        mode = Adaptive(time=RoundTime(fixed_s=fixed_s))
        (state, _) = federate(PruneFL(density=1.0, adjust_every=1, mode=mode), network, world, 3)[-1]
        assert state.mask is not None
        kept.append(state.mask.density)
    assert kept[0] > 0.99  # all that has a gradient
    assert 0.7**2 < kept[1] < 0.7  # two adjustments, each of which may take 0.3 away


@pytest.mark.parametrize("mode", MODES)
def test_who_answers_first_does_not_matter(network: Network, world: World, mode: Fixed | Adaptive) -> None:
    method = PruneFL(density=0.1, adjust_every=1, mode=mode)
    fleet = federation(world, network)
    state, order = federate(method, network, world, 1)[-1]
    uploads = list(fleet.ask(order, range(3)))
    masks = [method.absorb(network, state, line, Mean().fold()).mask for line in itertools.permutations(uploads)]
    assert masks[0] is not None
    assert all(masks[0].equals(mask) for mask in masks)


def test_what_a_schedule_comes_to_is_told() -> None:
    assert "the mask never moves" in PruneFL(adjust_every=10, stop_round=10).remarks(50)[0]
    assert "the last of 11 rounds" in PruneFL(adjust_every=10, mode=Adaptive()).remarks(11)[0]
    assert PruneFL(adjust_every=10, stop_round=10, mode=Fixed(fraction=0)).remarks(50) == ()


def test_a_density_that_cannot_be_had_is_found_before_anything_runs(network: Network) -> None:
    with pytest.raises(ValueError, match="the least density is"):
        PruneFL(density=0.0005).check(network, np.random.default_rng(0))
