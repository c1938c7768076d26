"""Budget-aware extrusion: pushes the weights that will be dropped towards 0 while the others train (FedMef)."""

import math

import torch
from lightning import pytorch as pl
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from fedtiny.client.module import Classifier
from fedtiny.payload.extrusion import Extrusion
from fedtiny.sparse.engine.layers import Sparse
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights
from fedtiny.sparse.select import smallest_kept

__all__ = ["Extrude"]


class Extrude(pl.Callback):
    """Adds the penalty's gradient before each step, and sets the step's learning rate.

    What the optimizer moves is a vector of kept weights, made by `KeepMask` or by the sparse engine, each in an order
    of its own; theta_low is found in the order's dense weights, so it is the same on both.
    """

    def __init__(self, extrusion: Extrusion, weights: Weights, mask: Mask) -> None:
        """Finds theta_low.

        Args:
            extrusion: How many weights of each layer, and how hard.
            weights: What training starts from, masked.
            mask: The mask.
        """
        self._how = extrusion
        self._mask = mask
        self._low = {
            name: smallest_kept(mask.keep[name], weights[name], count) for name, count in extrusion.counts.items()
        }
        self._layers: list[tuple[Tensor, Tensor]] = []  # what the optimizer moves, and (count,) places in it
        self._step, self._steps, self._eta = 0, 1, 0.0
        self._handle: RemovableHandle | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Watches the optimizer, now that there is one."""
        assert isinstance(pl_module, Classifier)
        names = [name for name, _ in pl_module.net.named_parameters()]
        moved = dict(zip(names, pl_module.trainable, strict=True))
        self._layers = []
        for name, low in self._low.items():
            layer = pl_module.net.get_submodule(name.removesuffix(".weight"))
            kept = layer.gather(low) if isinstance(layer, Sparse) else low[self._mask.keep[name]]
            self._layers.append((moved[name], kept.nonzero().flatten().to(pl_module.device)))
        assert trainer.max_epochs is not None
        (optimizer,) = trainer.optimizers
        self._step, self._steps = 0, trainer.max_epochs * int(trainer.num_training_batches)
        self._eta = float(optimizer.param_groups[0]["lr"])
        self._handle = optimizer.register_step_pre_hook(self._before_step)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
        squares = 0.0
        with torch.no_grad():
            for vector, places in self._layers:
                assert vector.grad is not None
                low = vector[places]
                squares += float((low.double() ** 2).sum())
                vector.grad.index_add_(0, places, low, alpha=2 * self._how.penalty)
        rate = self._how.rate(self._eta, math.sqrt(squares), self._step, self._steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        self._step += 1

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Takes the hook off again."""
        if self._handle is not None:
            self._handle.remove()
        self._handle, self._layers = None, []
