"""Answers `TopGradients`."""

from collections.abc import Mapping
from functools import partial

from lightning import pytorch as pl
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedtiny.client.module import Batch, Classifier
from fedtiny.client.probes.answering import Answering
from fedtiny.payload.probes import Gradients
from fedtiny.sparse.buffer import TopBuffer
from fedtiny.sparse.engine.layers import Sparse
from fedtiny.sparse.mask import Mask

__all__ = ["CollectTop", "CollectTopGradients"]


class CollectTop(Answering):
    """Reads the dense gradients of the asked layers in the last step, each as autograd finishes it.

    A layer on the sparse engine hands them over one output channel at a time: never is more of them alive.
    """

    def __init__(self, count: Mapping[str, int], mask: Mask) -> None:
        """Makes one buffer a layer.

        Args:
            count: Parameter name -> gradients to find.
            mask: Pruned weights alone are looked at.
        """
        self._keep = {name: mask.keep[name].flatten() for name in count}
        self.buffers = {name: TopBuffer(size) for name, size in count.items()}
        """Parameter name -> the largest gradients of its pruned weights, once the trainer has returned."""
        self._handles: list[RemovableHandle] = []
        self._sparse: dict[str, Sparse] = {}
        self._last = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Hooks the dense layers; `KeepMask` hooks them after this and frees what was read."""
        assert isinstance(pl_module, Classifier)
        self._keep = {name: keep.to(pl_module.device) for name, keep in self._keep.items()}
        for name in self.buffers:
            layer = pl_module.net.get_submodule(name.removesuffix(".weight"))
            if isinstance(layer, Sparse):
                self._sparse[name] = layer
                continue
            assert isinstance(layer.weight, nn.Parameter)
            hook = partial(self._read, name)
            self._handles.append(layer.weight.register_post_accumulate_grad_hook(hook))

    def _read(self, name: str, parameter: Tensor) -> None:
        if self._last:
            assert parameter.grad is not None
            self._take(name, parameter.grad.flatten(), 0)

    def _take(self, name: str, gradient: Tensor, start: int) -> None:
        self.buffers[name].push(gradient, self._keep[name][start : start + len(gradient)], start)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Tells the last step from the others: only then do sparse layers compute their dense gradients."""
        assert trainer.max_epochs is not None
        last_epoch = trainer.current_epoch == trainer.max_epochs - 1
        self._last = last_epoch and batch_idx == trainer.num_training_batches - 1
        if self._last:
            for name, layer in self._sparse.items():
                layer.watch = partial(self._take, name)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Takes the hooks off again."""
        for handle in self._handles:
            handle.remove()
        for layer in self._sparse.values():
            layer.watch = None
        self._handles, self._sparse = [], {}


class CollectTopGradients(CollectTop):
    """Finds the largest gradients, and tells where they are and what."""

    def answer(self) -> Gradients:
        """The indices and signed gradients of each layer's buffer."""
        return Gradients({name: x.found for name, x in self.buffers.items()})
