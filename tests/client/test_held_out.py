"""Examples that are held out: what they are for, and that nobody trains on them. And weights that are kept back."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedtiny.client.client import Client
from fedtiny.client.world import World
from fedtiny.data.loaders import scaled
from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.packing import Packing
from fedtiny.payload.probes import (
    Accuracy,
    BatchNormStatistics,
    Gradients,
    LocalAccuracy,
    LocalLoss,
    Loss,
    Statistics,
    TopGradients,
)
from fedtiny.payload.training import Training
from fedtiny.payload.upload import decode_upload, encode_upload, upload_bytes
from fedtiny.payload.values import Quantised
from fedtiny.server.effort import Effort
from fedtiny.sparse.cost import forward_flops
from fedtiny.sparse.network import Network, load_
from tests.client.test_keep_mask import magnitude_mask

TRAINING = Training(epochs=2, batch=8)


def same(a: Upload, b: Upload) -> bool:
    assert a.values is not None
    assert b.values is not None
    return a.values.equal(b.values) and a.loss == b.loss


def test_no_example_held_out_is_ever_trained_on(network: Network, world: World) -> None:
    """What is trained is the same to the bit when these pictures and labels are others; what is measured is not."""
    order = Order(3, network.weights, None, TRAINING, (LocalLoss(),), holdout=0.3)
    client = Client(world)
    honest = client.carry_out(order, 0)
    aside = client._held_out(order, 0)[1]
    assert len(aside) == 12
    images, labels = world.images.copy(), world.labels.copy()
    images[aside], labels[aside] = 255 - images[aside], (labels[aside] + 1) % 4
    spoilt = Client(replace(world, images=images, labels=labels)).carry_out(order, 0)
    assert same(honest, spoilt)
    assert honest.answers != spoilt.answers
    images[world.shares[0][~np.isin(world.shares[0], aside)]] = 0
    assert not same(honest, Client(replace(world, images=images, labels=labels)).carry_out(order, 0))


def test_they_are_the_same_in_every_round_and_of_each_client_its_own(network: Network, world: World) -> None:
    client = Client(world)
    of = {k: client._held_out(Order(0, {}, None, TRAINING, holdout=0.25), k) for k in (0, 1, 2)}
    for k, (rest, aside) in of.items():
        assert np.array_equal(np.sort(np.concatenate([rest, aside])), np.sort(world.shares[k]))
        again = Client(world)._held_out(Order(7, {}, None, TRAINING, holdout=0.25), k)
        assert all(np.array_equal(x, y) for x, y in zip(again, (rest, aside), strict=True))
    upload = client.carry_out(Order(0, network.weights, None, TRAINING, (), holdout=0.25), 0)
    assert upload.examples == len(of[0][0]) == 30
    assert not same(upload, client.carry_out(Order(0, network.weights, None, TRAINING), 0))


@pytest.mark.parametrize(
    ("examples", "share", "out"), [(40, 0.0, 0), (40, 0.2, 8), (10, 0.01, 1), (3, 0.9, 1), (2, 0.9, 0), (1, 0.5, 0)]
)
def test_one_is_held_out_at_least_but_two_are_trained_on(examples: int, share: float, out: int) -> None:
    assert Order(0, {}, None, TRAINING, holdout=share).held_out(examples) == out


def test_accuracy_is_counted_before_training_on_the_weights_as_received(network: Network, world: World) -> None:
    mask = magnitude_mask(network, 0.3)
    weights = dict(network.weights)
    mask.apply_(weights)
    order = Order(0, weights, mask, TRAINING, (LocalAccuracy(),), holdout=0.5)
    client = Client(world)
    aside = client._held_out(order, 2)[1]
    load_(network.module, weights)
    with torch.no_grad():
        said = network.module.eval()(scaled(world.images[aside], world.data)).argmax(1)
    correct = int((said == torch.from_numpy(world.labels[aside])).sum())
    (answer,) = client.carry_out(order, 2).answers
    assert answer == Accuracy(correct, len(aside))
    # Without anything held out it is the development share that is looked at; it needs no training.
    (answer,) = client.carry_out(Order(0, weights, mask, None, (LocalAccuracy(),)), 2).answers
    assert isinstance(answer, Accuracy)
    assert answer.examples == 33
    assert answer.encode({}) == answer.correct.to_bytes(4, "little") + (33).to_bytes(4, "little")


def test_a_client_of_two_examples_tells_of_none(network: Network, world: World) -> None:
    two = replace(world, shares={0: world.shares[0][:2]})
    order = Order(0, network.weights, None, TRAINING, (LocalAccuracy(),), holdout=0.5)
    upload = Client(two).carry_out(order, 0)
    assert upload.answers == (Accuracy(0, 0),)
    assert upload.examples == 2
    back = decode_upload(encode_upload(upload), order, Packing.of(world.layout, None), 0, 100)
    assert back.answers == (Accuracy(0, 0),)


def test_measuring_first_changes_no_bit_of_the_training_and_answers_keep_their_order(
    network: Network, world: World
) -> None:
    mask = magnitude_mask(network, 0.1)
    weights = dict(network.weights)
    mask.apply_(weights)
    top = TopGradients(count=dict.fromkeys(network.blocks[1], 3))
    client = Client(world)
    plain = client.carry_out(Order(1, weights, mask, TRAINING, (top,), holdout=0.25), 0)
    asked = (LocalLoss(), top, BatchNormStatistics(), LocalAccuracy())
    both = client.carry_out(Order(1, weights, mask, TRAINING, asked, holdout=0.25), 0)
    assert same(plain, both)
    assert [type(x) for x in both.answers] == [Loss, Gradients, Statistics, Accuracy]
    one, other = plain.answers[0], both.answers[1]
    assert isinstance(one, Gradients)
    assert isinstance(other, Gradients)
    for name, pair in one.layers.items():
        assert all(x.equal(y) for x, y in zip(pair, other.layers[name], strict=True))


def test_the_effort_of_measuring_first_is_counted(network: Network) -> None:
    plain = Effort.of(network, Order(0, network.weights, None, TRAINING, holdout=0.2))
    asked = Effort.of(network, Order(0, network.weights, None, TRAINING, (LocalAccuracy(),), holdout=0.2))
    more = {x: asked.flops(32)[x] - plain.flops(32)[x] for x in ("rigl", "fedrts")}
    assert more == pytest.approx(dict.fromkeys(more, 8 * forward_flops(network, None)))


def test_a_client_keeps_its_weights_back_unless_its_loss_is_below_the_limit(network: Network, world: World) -> None:
    client, order = Client(world), Order(0, network.weights, None, TRAINING, codec=Quantised())
    free = client.carry_out(order, 0)
    for limit, sends in ((free.loss, False), (float(np.nextafter(np.float32(free.loss), np.float32(9))), True)):
        limited = replace(order, limit=limit)
        upload = client.carry_out(limited, 0)
        assert upload.loss == free.loss
        assert (upload.values is not None) == sends
        buffer = client.send(limited, 0).buffer
        assert buffer is not None
        packing = Packing.of(world.layout, None)
        assert decode_upload(buffer, limited, packing, 0, 100).values is not None or not sends
        assert len(buffer) == (upload_bytes(limited, packing) if sends else 12)
