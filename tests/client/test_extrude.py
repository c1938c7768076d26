"""Budget-aware extrusion: the penalty's gradient and the learning rate, by hand and as a client has them."""

import math
from collections.abc import Mapping

import pytest
from torch import Tensor, tensor

from fedtiny.client.client import Client
from fedtiny.client.world import World
from fedtiny.payload.extrusion import Extrusion
from fedtiny.payload.messages import Order
from fedtiny.payload.training import Training
from fedtiny.sparse.network import Network
from fedtiny.sparse.select import drop_then_grow, smallest_kept
from tests.client.test_engines import masked


def test_the_learning_rate_by_hand() -> None:
    how = Extrusion(counts={}, penalty=0.1, lr=0.5)
    # 2 sigmoid(ln 3) - 1 = 2 * 3/4 - 1 = 1/2; p is 1 at first, (20 - 8) / (20 - 4) = 3/4 in step 4 of 10.
    assert how.rate(0.1, math.log(3), 0, 10) == pytest.approx(0.25)
    assert how.rate(0.1, math.log(3), 4, 10) == pytest.approx(0.75 * 0.25)
    assert how.rate(0.1, math.log(3), 9, 10) == 0.1  # 2/11 of 0.25 is less
    assert how.rate(0.1, 0.0, 0, 10) == 0.1  # nothing left to push out
    assert how.rate(0.5, 100.0, 0, 10) == 0.5  # with a constant learning rate beta never exceeds it


def test_theta_low_is_what_would_be_dropped() -> None:
    keep, weight = tensor([True, True, False, True, True]), tensor([0.1, -0.5, 0.0, 0.5, -0.1])
    low = smallest_kept(keep, weight, 1)
    assert low.tolist() == [False, False, False, False, True]  # of equals, the lower place stays
    assert smallest_kept(keep, weight, 3).tolist() == [True, False, False, True, True]
    assert not smallest_kept(keep, weight, 0).any()
    new = drop_then_grow(keep, weight, tensor([0.0, 0.0, 1.0, 0.0, 0.0]), 1)
    assert (keep & ~new).equal(low)


PLAIN = Training(epochs=1, batch=64, lr=0.1, momentum=0.0, weight_decay=0.0)


def trained(world: World, network: Network, training: Training) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Weights before and after client 1, whose examples are one batch."""
    mask, weights = masked(network, 0.2)
    after = Client(world).carry_out(Order(0, weights, mask, training), 1).weights
    assert after is not None
    return weights, after


def test_only_theta_low_is_pushed_and_by_the_gradient_of_its_square(network: Network, world: World) -> None:
    mask, weights = masked(network, 0.2)
    names = list(network.prunable)[:3]
    how = Extrusion(counts={names[0]: 3, names[1]: 5, names[2]: 0}, penalty=0.4, lr=0.1)
    _, plain = trained(world, network, PLAIN)
    _, pushed = trained(world, network, PLAIN.model_copy(update={"extrusion": how}))
    for name, x in plain.items():
        moved = pushed[name] - x
        low = smallest_kept(mask.keep[name], weights[name], how.counts.get(name, 0)) if name in mask.keep else None
        if low is None or not low.any():
            assert not moved.any(), name
            continue
        assert not moved[~low].any()
        # One step of 0.1 against the gradient 2 * 0.4 * w.
        assert moved[low].tolist() == pytest.approx((-0.08 * weights[name][low]).tolist(), rel=1e-3, abs=1e-7)


def test_the_step_is_made_at_the_larger_rate(network: Network, world: World) -> None:
    name = "stages.1.0.conv2.weight"
    mask, _ = masked(network, 0.2)
    count = int(mask.keep[name].sum()) - 1
    how = Extrusion(counts={name: count}, penalty=0.0, lr=2.0)
    before, plain = trained(world, network, PLAIN)
    _, pushed = trained(world, network, PLAIN.model_copy(update={"extrusion": how}))
    low = smallest_kept(mask.keep[name], before[name], count)
    rate = 2.0 * math.tanh(float(before[name][low].norm()) / 2)
    assert rate > 0.1
    for other, x in plain.items():
        if "running" not in other:
            expected = (x - before[other]) * rate / 0.1
            assert (pushed[other] - before[other]).flatten().tolist() == pytest.approx(
                expected.flatten().tolist(), rel=1e-2, abs=1e-5
            )


def test_the_next_client_trains_as_if_it_were_alone(network: Network, world: World) -> None:
    mask, weights = masked(network, 0.2)
    client, order = Client(world), Order(0, weights, mask, PLAIN)
    how = Extrusion(counts=dict.fromkeys(network.prunable, 2), penalty=0.5, lr=5.0)
    alone = client.carry_out(order, 1).weights
    client.carry_out(Order(0, weights, mask, PLAIN.model_copy(update={"extrusion": how, "epochs": 2})), 0)
    again = client.carry_out(order, 1).weights
    assert alone is not None
    assert again is not None
    assert all(x.equal(again[name]) for name, x in alone.items())


def test_the_first_learning_rate_is_remembered() -> None:
    training = Training(lr=0.2, lr_schedule="cosine")
    later = training.at(5, 10)
    assert later.lr == pytest.approx(0.1)
    assert later.first_lr == training.first_lr == 0.2
    assert later.model_copy(update={"epochs": 1}).first_lr == 0.2
    assert Training(lr=0.3).at(5, 10).first_lr == 0.3
