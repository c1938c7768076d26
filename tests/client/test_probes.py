import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from fedtiny import seeds
from fedtiny.client.client import Client
from fedtiny.client.probes import callback_for
from fedtiny.client.probes.batch_norm import RunningMoments
from fedtiny.client.probes.gradients import flow_scores, gradients, normalised
from fedtiny.client.world import World
from fedtiny.data.loaders import scaled
from fedtiny.payload.messages import Order
from fedtiny.payload.probes import (
    BatchNormStatistics,
    GradientFlow,
    Gradients,
    LocalLoss,
    Loss,
    Saliency,
    Scores,
    Statistics,
    TopGradients,
)
from fedtiny.payload.training import Training
from fedtiny.sparse.network import Network, load_
from tests.client.test_keep_mask import magnitude_mask


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_running_moments_do_not_depend_on_how_the_data_is_cut(sizes: list[int], seed: int) -> None:
    data = torch.randn(sum(sizes), 2, 3, 3, generator=torch.Generator().manual_seed(seed)) * 3 + 1
    seen = RunningMoments()
    for batch in data.split(sizes):
        seen.add(batch)
    moments = seen.moments()
    values = data.transpose(0, 1).flatten(1).double()
    assert moments.count == values.shape[1]
    assert moments.mean.tolist() == pytest.approx(values.mean(1).tolist(), abs=1e-5)
    assert moments.var.tolist() == pytest.approx(values.var(1).tolist(), rel=1e-5)


def test_statistics_of_one_batch_are_those_pytorch_would_count_from_zero(network: Network, world: World) -> None:
    """Cumulative averaging (momentum=None) after a reset, on one batch: both definitions agree."""
    order = Order(-1, network.weights, None, None, (BatchNormStatistics(),), 1.0)
    (answer,) = Client(world).carry_out(order, 1).answers
    assert isinstance(answer, Statistics)
    net = network.module
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    indices = world.shares[1]
    net.train()(scaled(world.images[indices], world.data))
    buffers = dict(net.named_buffers())
    assert len(answer.layers) == 9
    for name, moments in answer.layers.items():
        assert moments.mean.tolist() == pytest.approx(buffers[f"{name}.running_mean"].tolist(), abs=1e-5)
        assert moments.var.tolist() == pytest.approx(buffers[f"{name}.running_var"].tolist(), rel=1e-4)
    assert answer.layers["stem.1"].count == 24 * 64


def test_measuring_changes_no_weights_and_uses_the_development_share(network: Network, world: World) -> None:
    order = Order(-1, network.weights, None, None, (LocalLoss(),), 0.25)
    upload = Client(world).carry_out(order, 0)
    assert upload.weights is None
    (answer,) = upload.answers
    assert isinstance(answer, Loss)
    assert (upload.examples, answer.examples) == (40, 10)
    # At least two examples, however small the share: one has no batch statistics.
    (least,) = Client(world).carry_out(Order(-1, network.weights, None, None, (LocalLoss(),), 0.001), 0).answers
    assert isinstance(least, Loss)
    assert least.examples == 2


def test_the_loss_is_the_sum_in_evaluation_mode(network: Network, world: World) -> None:
    (answer,) = Client(world).carry_out(Order(-1, network.weights, None, None, (LocalLoss(),)), 2).answers
    indices = world.shares[2]
    with torch.no_grad():
        logits = network.module.eval()(scaled(world.images[indices], world.data))
    expected = functional.cross_entropy(logits, torch.from_numpy(world.labels[indices]), reduction="sum")
    assert isinstance(answer, Loss)
    assert answer.total == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("block", [0, 1, 2])
def test_top_gradients_equal_the_dense_ones_at_the_masked_weights(network: Network, world: World, block: int) -> None:
    mask = magnitude_mask(network, 0.1)
    weights = dict(network.weights)
    mask.apply_(weights)
    names = network.blocks[block]
    probe = TopGradients(count=dict.fromkeys(names, 5))
    # One epoch of one batch: the last step is the first one, and starts from the order's weights.
    order = Order(0, weights, mask, Training(epochs=1, batch=64), (probe,))
    (answer,) = Client(world).carry_out(order, 1).answers
    assert isinstance(answer, Gradients)
    load_(network.module, weights)
    indices = world.shares[1]
    loss = functional.cross_entropy(
        network.module.train()(scaled(world.images[indices], world.data)), torch.from_numpy(world.labels[indices])
    )
    dense = dict(zip(names, torch.autograd.grad(loss, [network.module.get_parameter(n) for n in names]), strict=True))
    for name in names:
        flat, pruned = dense[name].flatten(), ~mask.keep[name].flatten()
        best = flat.abs().masked_fill(~pruned, -1).argsort(descending=True, stable=True)[:5].sort().values
        chosen, values = answer.layers[name]
        assert chosen.tolist() == best.tolist()
        assert values.tolist() == pytest.approx(flat[best].tolist(), rel=1e-3, abs=1e-7)


def scores_of(client: Client, network: Network, probe: Saliency | GradientFlow, number: int) -> Scores:
    (answer,) = client.carry_out(Order(-1, network.weights, None, None, (probe,)), number).answers
    assert isinstance(answer, Scores)
    return answer


@pytest.mark.parametrize("flow", [False, True])
def test_scores_equal_those_of_the_dense_network_and_leave_nothing_behind(
    network: Network, world: World, flow: bool
) -> None:
    names = tuple(network.prunable)
    probe = (
        GradientFlow(layers=names, batches=2, batch=64, temperature=200)
        if flow
        else Saliency(layers=names, batches=2, batch=64)
    )
    client = Client(world)
    mask = magnitude_mask(network, 0.1)
    train = Order(0, network.weights, mask, Training(epochs=1, batch=16))
    before = client.carry_out(train, 1).weights  # the network was sparse before, and is again behind it
    answer = scores_of(client, network, probe, 1)
    after = client.carry_out(train, 1).weights
    assert before is not None
    assert after is not None
    assert all(x.equal(after[name]) for name, x in before.items())
    net, indices = network.module, world.shares[1]  # 24 examples: all of them, in one batch
    batch = scaled(world.images[indices], world.data), torch.from_numpy(world.labels[indices])
    if flow:
        everything = [layer.name for layer in network.layers]
        found = dict(zip(everything, flow_scores(net, everything, [batch], 200.0), strict=True))
        expected = normalised([found[name] for name in names])
    else:
        weights = [net.get_parameter(name).detach() for name in names]
        expected = normalised([(g * w).abs() for g, w in zip(gradients(net, names, batch), weights, strict=True)])
    assert list(answer.layers) == list(names)
    for name, score in zip(names, expected, strict=True):
        assert answer.layers[name].tolist() == pytest.approx(score.tolist(), rel=1e-3, abs=1e-8)
    total = sum(float(x.double().abs().sum()) for x in answer.layers.values())
    assert total == pytest.approx(1.0, abs=1e-5)


def test_scores_are_of_as_many_examples_as_asked_drawn_at_random_and_summed(network: Network, world: World) -> None:
    names, client = tuple(network.prunable), Client(world)
    few = scores_of(client, network, Saliency(layers=names, batches=1, batch=8), 0)
    again = scores_of(Client(world), network, Saliency(layers=names, batches=1, batch=8), 0)
    two = scores_of(client, network, Saliency(layers=names, batches=2, batch=8), 0)
    assert all(x.equal(again.layers[name]) for name, x in few.layers.items())
    assert any(not x.equal(two.layers[name]) for name, x in few.layers.items())
    indices = seeds.stream(world.seed, "client", 0, "look").permutation(world.shares[0])[:16]
    assert not np.array_equal(np.sort(indices), world.shares[0][:16])
    parts = [
        gradients(network.module, names, (scaled(world.images[half], world.data), torch.from_numpy(world.labels[half])))
        for half in (indices[:8], indices[8:])
    ]
    weights = [network.module.get_parameter(name).detach() for name in names]
    expected = normalised([((a + b) * w).abs() for a, b, w in zip(*parts, weights, strict=True)])
    for name, score in zip(names, expected, strict=True):
        assert two.layers[name].tolist() == pytest.approx(score.tolist(), rel=1e-3, abs=1e-8)


def test_a_probe_that_nobody_answers_says_so() -> None:
    with pytest.raises(NotImplementedError, match="no callback answers 3"):
        callback_for(3, None)


def test_numbers_of_a_client_do_not_depend_on_who_came_before(network: Network, world: World) -> None:
    order = Order(5, network.weights, None, Training(epochs=1, batch=16))
    client = Client(world)
    first = client.carry_out(order, 2).weights
    client.carry_out(order, 0)
    client.carry_out(Order(-1, network.weights, None, None, (BatchNormStatistics(),)), 1)
    second = client.carry_out(order, 2).weights
    assert first is not None
    assert second is not None
    assert all(np.array_equal(x.numpy(), second[name].numpy()) for name, x in first.items())
