"""Accumulated dense gradients and the places of the largest, against plain dense training."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fedtiny import seeds
from fedtiny.client.client import Client
from fedtiny.client.world import World
from fedtiny.data.loaders import Batches
from fedtiny.payload.messages import Order
from fedtiny.payload.probes import Gradients, Indices, SquaredGradients, Squares, TopGradients, TopIndices
from fedtiny.payload.training import Training
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights, load_
from tests.client.test_keep_mask import magnitude_mask

TRAINING = Training(epochs=2, batch=8, lr=0.05, momentum=0.9, weight_decay=0.01)


def start(network: Network, density: float) -> tuple[Mask | None, Weights]:
    weights = dict(network.weights)
    if density == 1:
        return None, weights
    mask = magnitude_mask(network, density)
    mask.apply_(weights)
    return mask, weights


def summed(network: Network, world: World, mask: Mask | None, weights: Weights, client: int) -> dict[str, Tensor]:
    """The dense gradients of all steps added up, in float64, by masked SGD on dense tensors."""
    load_(network.module, weights)
    net = network.module.train()
    optimizer = torch.optim.SGD(
        net.parameters(), lr=TRAINING.lr, momentum=TRAINING.momentum, weight_decay=TRAINING.weight_decay
    )
    rng = seeds.stream(world.seed, "client", client, "round", 0)
    batches = Batches(world.images, world.labels, world.shares[client], TRAINING.batch, world.data, rng)
    sums = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in network.prunable.items()}
    for _ in range(TRAINING.epochs):
        for images, labels in batches:
            optimizer.zero_grad()
            functional.cross_entropy(net(images), labels).backward()
            for name in sums:
                grad = net.get_parameter(name).grad
                assert grad is not None
                sums[name] += grad
                if mask is not None:
                    grad *= mask.keep[name]
            optimizer.step()
    return sums


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_squares_are_those_of_the_dense_gradients_of_all_steps(network: Network, world: World, density: float) -> None:
    mask, weights = start(network, density)
    names = tuple(network.prunable)
    order = Order(0, weights, mask, TRAINING, (SquaredGradients(layers=names),))
    upload = Client(world).carry_out(order, 1)
    (answer,) = upload.answers
    assert isinstance(answer, Squares)
    sums = summed(network, world, mask, weights, 1)
    assert tuple(answer.layers) == names
    for name, total in sums.items():
        expected = total.square().flatten().float()
        assert answer.layers[name].shape == expected.shape
        torch.testing.assert_close(answer.layers[name], expected, rtol=2e-2, atol=1e-4 * float(expected.max()))
        if mask is not None:
            assert answer.layers[name][~mask.keep[name].flatten()].any()  # of pruned weights too


def test_asking_changes_nothing_and_leaves_nothing_behind(network: Network, world: World) -> None:
    mask, weights = start(network, 0.1)
    plain = Order(0, weights, mask, TRAINING)
    asking = replace(plain, probes=(SquaredGradients(layers=tuple(network.prunable)),))
    client = Client(world)
    uploads = [client.carry_out(order, 1) for order in (plain, asking, plain, asking)]
    values = [upload.values for upload in uploads]
    assert values[0] is not None
    assert all(x is not None and x.equal(values[0]) for x in values)
    (first,), (second,) = uploads[1].answers, uploads[3].answers
    assert isinstance(first, Squares)
    assert isinstance(second, Squares)
    assert all(x.equal(second.layers[name]) for name, x in first.layers.items())


def test_top_indices_are_those_of_the_top_gradients(network: Network, world: World) -> None:
    mask, weights = start(network, 0.1)
    count = dict.fromkeys(network.blocks[1], 5)
    client, order = Client(world), Order(0, weights, mask, TRAINING)
    (places,) = client.carry_out(replace(order, probes=(TopIndices(count=count),)), 0).answers
    (gradients,) = client.carry_out(replace(order, probes=(TopGradients(count=count),)), 0).answers
    assert isinstance(places, Indices)
    assert isinstance(gradients, Gradients)
    assert list(places.layers) == list(count)
    assert all(x.equal(gradients.layers[name][0]) for name, x in places.layers.items())
