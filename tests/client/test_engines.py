"""A client on the sparse engine is the client on dense kernels, within float32 rounding."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from fedtiny.client.client import Client
from fedtiny.client.world import World
from fedtiny.data.loaders import Batches
from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.probes import BatchNormStatistics, Gradients, LocalLoss, Loss, Statistics, TopGradients
from fedtiny.payload.training import Training
from fedtiny.seeds import stream
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights, load_
from tests.client.test_keep_mask import magnitude_mask
from tests.conftest import Runner


def masked(network: Network, density: float) -> tuple[Mask, Weights]:
    mask, weights = magnitude_mask(network, density), dict(network.weights)
    mask.apply_(weights)
    return mask, weights


def both(world: World, order: Order, client: int) -> tuple[Upload, Upload]:
    dense, sparse = (
        Client(replace(world, engine=Engine.model_validate({"name": name}))).carry_out(order, client)
        for name in ("dense", "sparse")
    )
    return dense, sparse


@pytest.mark.parametrize("engine", [Engine(name="dense")])
def test_the_same_weights_come_out_of_a_few_steps(network: Network, world: World) -> None:
    mask, weights = masked(network, 0.2)
    dense, sparse = both(world, Order(0, weights, mask, Training(epochs=2, batch=16)), 0)
    assert dense.weights is not None
    assert sparse.weights is not None
    assert list(dense.weights) == list(sparse.weights)
    assert sparse.loss == pytest.approx(dense.loss, rel=1e-4)
    for name, x in dense.weights.items():
        torch.testing.assert_close(sparse.weights[name], x, rtol=1e-3, atol=1e-4)


def test_pruned_weights_are_exactly_0_in_every_upload(network: Network, world: World) -> None:
    mask, weights = masked(network, 0.1)
    client = Client(world)
    for r in range(2):
        upload = client.carry_out(Order(r, weights, mask, Training(epochs=1, batch=16)), 0)
        assert upload.weights is not None
        for name, keep in mask.keep.items():
            assert upload.weights[name].shape == keep.shape
            assert not upload.weights[name][~keep].any()
            assert upload.weights[name][keep].any()


@pytest.mark.parametrize("engine", [Engine(name="dense")])
def test_measurements_agree(network: Network, world: World) -> None:
    mask, weights = masked(network, 0.2)
    for dense, sparse in (
        both(world, Order(-1, weights, mask, None, (BatchNormStatistics(),)), 2),
        both(world, Order(-1, weights, mask, None, (LocalLoss(),)), 2),
        both(world, Order(0, weights, mask, Training(epochs=1, batch=64), (top_gradients(network),)), 1),
    ):
        (one,), (other,) = dense.answers, sparse.answers
        if isinstance(one, Loss):
            assert isinstance(other, Loss)
            assert other.examples == one.examples
            assert other.total == pytest.approx(one.total, rel=1e-4)
        elif isinstance(one, Statistics):
            assert isinstance(other, Statistics)
            for name, moments in one.layers.items():
                assert other.layers[name].count == moments.count
                torch.testing.assert_close(other.layers[name].mean, moments.mean, rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(other.layers[name].var, moments.var, rtol=1e-4, atol=1e-5)
        else:
            assert isinstance(one, Gradients)
            assert isinstance(other, Gradients)
            for name, (indices, values) in one.layers.items():
                assert other.layers[name][0].tolist() == indices.tolist()
                torch.testing.assert_close(other.layers[name][1], values, rtol=1e-3, atol=1e-6)


def top_gradients(network: Network) -> TopGradients:
    return TopGradients(count=dict.fromkeys(network.blocks[1], 5))


@pytest.mark.parametrize("engine", ["dense", "sparse"])
def test_each_engine_repeats_to_the_bit(make_run: Runner, engine: str) -> None:
    first, second = (make_run(f"engine={engine}", folder=folder) for folder in ("first", "second"))
    assert first.summary["weights_sha256"] == second.summary["weights_sha256"]
    told = first.summary["engine"]
    assert isinstance(told, dict)
    assert told["name"] == engine


def test_auto_writes_down_what_it_chose_and_that_gives_the_same_run(make_run: Runner, tmp_path: Path) -> None:
    first = make_run("engine=auto", folder="first")
    path = tmp_path / "first" / "config.yaml"
    second = make_run(presets=(path,), folder="second")
    assert second.summary["weights_sha256"] == first.summary["weights_sha256"]
    assert "auto" not in path.read_text()


def test_the_loss_of_an_epoch_is_that_of_a_mean_example_not_of_a_mean_batch(network: Network, world: World) -> None:
    """No step moves anything at this rate, so each batch has the loss that it would have first."""
    weights = network.weights
    order = Order(0, weights, None, Training(epochs=1, batch=16, lr=1e-12))
    upload = Client(world).carry_out(order, 0)  # 40 examples: batches of 8, 16 and 16
    batches = Batches(
        world.images, world.labels, world.shares[0], 16, world.data, stream(world.seed, "client", 0, "round", 0)
    )
    load_(network.module, weights)
    losses = [(len(y), float(functional.cross_entropy(network.module.train()(x), y).detach())) for x, y in batches]
    assert [n for n, _ in losses] == [8, 16, 16]
    assert upload.loss == pytest.approx(sum(n * x for n, x in losses) / 40, rel=1e-6)
