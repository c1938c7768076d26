"""Pruned weights, their gradients and their momentum are exactly 0, because they are never there.

The optimizer sees no masked layer. It sees one vector a layer that holds the kept weights alone, so gradients and
momentum have as many entries as there are kept weights. A layer on the sparse engine has such a vector itself. For a
layer that stays dense, one is made here: as soon as autograd has accumulated a masked layer's dense
gradient, its kept entries are copied to that vector's gradient and the dense one is freed: at no time is more than
one alive.
"""

from dataclasses import dataclass

import torch
from lightning import pytorch as pl
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedtiny.client.module import Batch, Classifier
from fedtiny.sparse.mask import Mask

__all__ = ["KeepMask"]


@dataclass(slots=True)
class _Layer:
    """A masked layer: its dense parameter, where its kept weights stand in it, and these weights."""

    dense: nn.Parameter
    index: Tensor  # (kept,) int64, flat
    values: nn.Parameter  # (kept,) float32

    def gather(self, dense: Tensor) -> None:
        assert dense.grad is not None
        self.values.grad = dense.grad.flatten()[self.index]
        dense.grad = None

    def scatter(self) -> None:
        with torch.no_grad():
            self.dense.view(-1)[self.index] = self.values


class KeepMask(pl.Callback):
    """Trains the kept weights only.

    Callbacks that read dense gradients must stand before this one in the trainer's list: hooks run in that order.
    """

    def __init__(self, mask: Mask) -> None:
        """Names the mask."""
        self._mask = mask
        self._layers: list[_Layer] = []
        self._handles: list[RemovableHandle] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Hands the module what the optimizer may move. Lightning calls this before it asks for optimizers."""
        assert isinstance(pl_module, Classifier)
        keep = self._mask.keep
        trainable: list[nn.Parameter] = []
        for name, parameter in pl_module.net.named_parameters():
            if name not in keep or parameter.shape != keep[name].shape:  # not masked, or a vector already
                trainable.append(parameter)
                continue
            index = keep[name].flatten().nonzero().flatten().to(parameter.device)
            layer = _Layer(parameter, index, nn.Parameter(parameter.detach().flatten()[index]))
            self._layers.append(layer)
            self._handles.append(parameter.register_post_accumulate_grad_hook(layer.gather))
            trainable.append(layer.values)
        pl_module.trainable = trainable

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Writes the kept weights that the step moved back to their places."""
        for layer in self._layers:
            layer.scatter()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Takes the hooks off again, also after an exception."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._layers = [], []
