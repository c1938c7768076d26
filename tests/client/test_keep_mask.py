"""What must be true after every optimizer step, seen from a callback that looks at all of it."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from lightning import pytorch as pl

from fedtiny.client.client import Client
from fedtiny.client.keep_mask import KeepMask
from fedtiny.client.module import Batch, Classifier
from fedtiny.client.world import World
from fedtiny.data.datasets import Synthetic
from fedtiny.data.loaders import Batches
from fedtiny.payload.messages import Order
from fedtiny.payload.probes import TopGradients
from fedtiny.payload.training import Training
from fedtiny.sparse.allocate import Uniform
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, load_, weights_of
from fedtiny.sparse.select import keep_top


def magnitude_mask(network: Network, density: float) -> Mask:
    counts = Uniform().counts(network.prunable, density, np.random.default_rng(0))
    return keep_top({name: network.weights[name].abs() for name in network.prunable}, counts)


@dataclass
class Watch(pl.Callback):
    """Looks at weights, momentum and gradients after each step, and counts gradients that are alive at once."""

    mask: Mask
    steps: int = 0
    alive: list[int] = field(default_factory=list)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        masked = {name: x for name, x in pl_module.net.named_parameters() if name in self.mask.keep}

        def count(_: torch.Tensor) -> None:
            self.alive.append(sum(x.grad is not None for x in masked.values()))

        for parameter in masked.values():  # hooks run in order: this one after KeepMask's
            parameter.register_post_accumulate_grad_hook(count)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Classifier)
        self.steps += 1
        (optimizer,) = trainer.optimizers
        numbers = {name: x.numel() for name, x in pl_module.net.named_parameters()}
        dense = [size for name, size in numbers.items() if name not in self.mask.keep]
        kept = [int(keep.sum()) for keep in self.mask.keep.values()]
        moving = [x.numel() for group in optimizer.param_groups for x in group["params"]]
        momentum = [state["momentum_buffer"].numel() for state in optimizer.state.values()]
        # The optimizer has no place for a pruned weight, its gradient or its momentum.
        assert sorted(moving) == sorted(dense + kept)
        assert sorted(momentum) == sorted(dense + kept)
        for name, parameter in pl_module.net.named_parameters():
            if name in self.mask.keep:
                assert not parameter[~self.mask.keep[name]].any()


def fit(network: Network, mask: Mask, training: Training, *before: pl.Callback) -> tuple[Watch, Classifier]:
    module = Classifier(network.module)
    module.training_settings = training
    weights = dict(network.weights)
    mask.apply_(weights)
    load_(module.net, weights)
    watch = Watch(mask)
    data = Synthetic()
    examples = data.load()
    batches = Batches(examples.images, examples.labels, np.arange(60), 16, data, np.random.default_rng(0))
    trainer = pl.Trainer(
        max_epochs=training.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*before, KeepMask(mask), watch],
    )
    trainer.fit(module, batches)
    return watch, module


@pytest.mark.parametrize("density", [0.3, 0.02])
def test_pruned_weights_and_their_momentum_are_0_after_every_step(network: Network, density: float) -> None:
    mask = magnitude_mask(network, density)
    start = dict(network.weights)
    watch, module = fit(network, mask, Training(epochs=2, lr=0.1, momentum=0.9, weight_decay=0.01))
    assert watch.steps == 8
    end = weights_of(module.net)
    name = "stages.2.0.conv2.weight"
    assert not end[name][mask.keep[name]].equal(start[name][mask.keep[name]])  # kept weights did move


def test_no_two_dense_gradients_of_masked_layers_are_ever_alive(network: Network) -> None:
    watch, _ = fit(network, magnitude_mask(network, 0.1), Training(epochs=1))
    assert len(watch.alive) == 4 * len(network.prunable)
    # The layer whose gradient has just been accumulated was freed before this hook ran; no other was there.
    assert set(watch.alive) == {0}


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_equals_masked_sgd_on_dense_tensors(network: Network, clip_norm: float | None) -> None:
    """The reference: dense SGD with momentum and decay, gradients multiplied by the mask, then clipped."""
    mask = magnitude_mask(network, 0.2)
    training = Training(epochs=2, lr=0.05, momentum=0.9, weight_decay=0.01, clip_norm=clip_norm)
    reference = network.weights
    _, module = fit(network, mask, training)
    result = weights_of(module.net)
    load_(network.module, reference)
    weights = dict(network.weights)
    mask.apply_(weights)
    load_(network.module, weights)
    net = network.module.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    data = Synthetic()
    examples = data.load()
    batches = Batches(examples.images, examples.labels, np.arange(60), 16, data, np.random.default_rng(0))
    for _ in range(2):
        for images, labels in batches:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(images), labels).backward()
            for name, parameter in net.named_parameters():
                if name in mask.keep:
                    assert parameter.grad is not None
                    parameter.grad *= mask.keep[name]
            if clip_norm is not None:
                assert torch.nn.utils.clip_grad_norm_(net.parameters(), clip_norm) > clip_norm
            optimizer.step()
    for name, tensor in weights_of(net).items():
        # A norm over zeros as well is summed in another order.
        assert torch.allclose(result[name], tensor, rtol=0, atol=0 if clip_norm is None else 1e-5), name


def test_hooks_are_taken_off_and_nothing_is_left_for_the_next_client(network: Network, world: World) -> None:
    mask = magnitude_mask(network, 0.1)
    weights = dict(network.weights)
    mask.apply_(weights)
    client = Client(world)
    top = TopGradients(count=dict.fromkeys(network.blocks[-1], 4))
    order = Order(3, weights, mask, Training(epochs=1, batch=16), (top,))
    alone = client.carry_out(order, 1)
    client.carry_out(replace(order, mask=None, probes=()), 0)  # somebody else, dense
    again = client.carry_out(order, 1)
    assert alone.weights is not None
    assert again.weights is not None
    assert all(x.equal(again.weights[name]) for name, x in alone.weights.items())


def test_a_client_that_raises_leaves_no_hooks_behind(network: Network, world: World) -> None:
    mask = magnitude_mask(network, 0.1)
    weights = dict(network.weights)
    mask.apply_(weights)
    client, order = Client(world), Order(0, weights, mask, Training(epochs=1, batch=16))
    fine = client.carry_out(order, 0)
    labels = world.labels.copy()
    world.labels[:] = 99  # no such class
    with pytest.raises(IndexError):
        client.carry_out(order, 0)
    world.labels[:] = labels
    again = client.carry_out(order, 0)
    assert fine.weights is not None
    assert again.weights is not None
    assert all(x.equal(again.weights[name]) for name, x in fine.weights.items())
