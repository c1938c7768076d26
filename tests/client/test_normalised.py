"""A client that trains normalised convolutions: masked, asked for gradients, and no buffers to average."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fedtiny.client.client import Client
from fedtiny.client.world import World
from fedtiny.data.loaders import scaled
from fedtiny.models.normalised import NormalisedConv2d
from fedtiny.models.zoo import ResNet8
from fedtiny.payload.messages import Order
from fedtiny.payload.packing import Layout
from fedtiny.payload.probes import BatchNormStatistics, Gradients, Statistics, TopGradients
from fedtiny.payload.training import Training
from fedtiny.payload.upload import decode_upload, encode_upload
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Prunable, load_
from tests.client.test_engines import masked


@pytest.fixture
def network() -> Network:
    return Network.of(ResNet8(width=4, normalisation="weight").build(1, 4, 0), (1, 8, 8), Prunable())


@pytest.fixture
def normalised(network: Network, world: World) -> World:
    layout = Layout({name: x.shape for name, x in network.weights.items()}, frozenset(network.prunable))
    return replace(world, model=ResNet8(width=4, normalisation="weight"), layout=layout)


def tell(network: Network, mask: Mask) -> None:
    for name, keep in mask.keep.items():
        layer = network.module.get_submodule(name.removesuffix(".weight"))
        assert isinstance(layer, NormalisedConv2d)
        layer.keep_only(keep)


def loss_of(network: Network, world: World, client: int) -> Tensor:
    indices = world.shares[client]
    logits = network.module(scaled(world.images[indices], world.data))
    return functional.cross_entropy(logits, torch.from_numpy(world.labels[indices]))


def test_one_step_is_masked_sgd(network: Network, normalised: World) -> None:
    mask, weights = masked(network, 0.1)
    training = Training(epochs=1, batch=64, lr=0.1, momentum=0.9, weight_decay=0.0)
    upload = Client(normalised).carry_out(Order(0, weights, mask, training), 1)
    load_(network.module, weights)
    tell(network, mask)
    loss_of(network, normalised, 1).backward()
    assert upload.weights is not None
    for name, x in network.module.named_parameters():
        assert x.grad is not None
        step = x.grad * mask.keep[name] if name in mask.keep else x.grad
        torch.testing.assert_close(upload.weights[name], (x - 0.1 * step).detach(), rtol=1e-4, atol=1e-6)
        assert name not in mask.keep or not upload.weights[name][~mask.keep[name]].any()
    packing, order = upload.packing, Order(0, weights, mask, training)
    assert decode_upload(encode_upload(upload), order, packing, 1, 1000).sent_bytes == 12 + 4 * packing.size


def test_top_gradients_are_those_of_weights_as_if_they_were_kept(network: Network, normalised: World) -> None:
    """What they are is tested with the layer; here, that they reach the answer."""
    mask, weights = masked(network, 0.1)
    name = "stages.1.0.conv2.weight"
    order = Order(0, weights, mask, Training(epochs=1, batch=64), (TopGradients(count={name: 3}),))
    (answer,) = Client(normalised).carry_out(order, 1).answers
    assert isinstance(answer, Gradients)
    load_(network.module, weights)
    tell(network, mask)
    (dense,) = torch.autograd.grad(loss_of(network, normalised, 1), network.module.get_parameter(name))
    pruned = dense.masked_fill(mask.keep[name], 0.0).flatten()
    best = pruned.abs().argsort(descending=True)[:3].sort().values
    places, values = answer.layers[name]
    assert places.tolist() == best.tolist()
    assert values.tolist() == pytest.approx(pruned[best].tolist(), rel=1e-3)


def test_there_are_no_statistics_to_ask_for(network: Network, normalised: World) -> None:
    mask, weights = masked(network, 0.2)
    order = Order(-1, weights, mask, None, (BatchNormStatistics(),))
    upload = Client(normalised).carry_out(order, 2)
    for each in (upload, decode_upload(encode_upload(upload), order, upload.packing, 2, 1000)):
        (answer,) = each.answers
        assert isinstance(answer, Statistics)
        assert answer.layers == {}
