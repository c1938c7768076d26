"""Answers `SquaredGradients`."""

from functools import partial

import torch
from lightning import pytorch as pl
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedtiny.client.module import Classifier
from fedtiny.client.probes.answering import Answering
from fedtiny.payload.probes import SquaredGradients, Squares
from fedtiny.sparse.engine.layers import Sparse

__all__ = ["AccumulateGradients"]


class AccumulateGradients(Answering):
    """Adds up the dense gradients of the asked layers over all steps, each as autograd finishes it.

    Layers on the sparse engine compute their dense gradients in every step for it, one output channel at a time.
    """

    def __init__(self, probe: SquaredGradients) -> None:
        """Starts from nothing."""
        self._sums: dict[str, Tensor] = dict.fromkeys(probe.layers, torch.empty(0))
        self._handles: list[RemovableHandle] = []
        self._sparse: list[Sparse] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Hooks the layers; `KeepMask` hooks the dense ones after this and frees what was read."""
        assert isinstance(pl_module, Classifier)
        for name in self._sums:
            layer = pl_module.net.get_submodule(name.removesuffix(".weight"))
            if isinstance(layer, Sparse):
                self._sums[name] = torch.zeros(layer.dense_shape.numel())
                layer.watch = partial(self._add, name)
                self._sparse.append(layer)
                continue
            assert isinstance(layer.weight, nn.Parameter)
            self._sums[name] = layer.weight.new_zeros(layer.weight.numel())
            self._handles.append(layer.weight.register_post_accumulate_grad_hook(partial(self._read, name)))

    def _read(self, name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._add(name, parameter.grad.flatten(), 0)

    def _add(self, name: str, gradient: Tensor, start: int) -> None:
        self._sums[name][start : start + len(gradient)] += gradient

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Takes the hooks off again."""
        for handle in self._handles:
            handle.remove()
        for layer in self._sparse:
            layer.watch = None
        self._handles, self._sparse = [], []

    def answer(self) -> Squares:
        """The squares of the sums."""
        return Squares({name: total.square().cpu() for name, total in self._sums.items()})
