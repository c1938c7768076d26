"""One Trainer for all clients: each trains on its own batches, whatever became of those before."""

from contextlib import nullcontext

import numpy as np
import pytest
from lightning import pytorch as pl

from fedtiny.client.module import Batch, Classifier
from fedtiny.client.trainer import DeviceTrainer
from fedtiny.data.datasets import Synthetic
from fedtiny.data.loaders import Batches
from fedtiny.payload.training import Training
from fedtiny.sparse.network import Network


class Watch(pl.Callback):
    """Remembers what it saw, and raises at that number of batches; 0 is never."""

    def __init__(self, raises_at: int) -> None:
        self.seen: list[float] = []
        self._raises_at = raises_at

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.seen.append(float(batch[0].mean()))
        if len(self.seen) == self._raises_at:
            raise RuntimeError("a bad client")


def batches_of(value: int, count: int) -> Batches:
    """So many batches of eight pictures of one grey."""
    data = Synthetic()
    examples = data.load()
    images = np.full_like(examples.images[: 8 * count], value)
    return Batches(images, examples.labels[: 8 * count], np.arange(8 * count), 8, data, np.random.default_rng(0))


def test_every_fit_sees_its_own_batches_also_after_one_that_raised(network: Network) -> None:
    module, trainer = Classifier(network.module), DeviceTrainer()
    module.training_settings = Training(epochs=1, lr=1e-6)
    for grey, count, raises in [(10, 2, 0), (20, 2, 0), (30, 2, 2), (40, 2, 0), (50, 2, 0), (60, 3, 0), (70, 2, 0)]:
        module.trainable, watch, batches = list(module.net.parameters()), Watch(raises), batches_of(grey, count)
        told = float(next(iter(batches))[0].mean())
        with pytest.raises(RuntimeError, match="a bad client") if raises else nullcontext():
            trainer.train(module, batches, [watch])
        assert watch.seen == pytest.approx([told] * count)
