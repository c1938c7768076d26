"""Scaled activation pruning: what the backward pass will want is kept small in the meantime (FedMef).

The forward pass is what it always is. What autograd saves of it goes through `saved_tensors_hooks`, and is exchanged
for what `sparse.activations` keeps: a convolution's input for its largest magnitudes, which is what its weight
gradient is then computed with; the output of a ReLU, the same tensor, which would keep it alive, for one bit a number,
which is all that its gradient needs; the input of a max-pool for its shape. So the tensors themselves are freed as
soon as the forward pass has used them. The gradient that goes back to the input takes only the weights, and is exact.
"""

import weakref
from dataclasses import dataclass

import torch
from lightning import pytorch as pl
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedtiny.client.module import Classifier
from fedtiny.sparse.activations import Gate, Kept, Nothing
from fedtiny.sparse.engine.layers import Sparse

__all__ = ["PruneActivations"]

_WATCHED = nn.Conv2d | nn.ReLU | nn.ReLU6 | nn.MaxPool2d


@dataclass(slots=True)
class _Recent:
    """What was kept of a tensor in this forward pass: a shortcut reads again what a convolution beside it has read."""

    tensor: weakref.ref[Tensor]
    version: int
    kept: Kept

    def holds(self, x: Tensor, saved: Tensor) -> bool:
        """Whether it is of `x`, unchanged since, and lies in memory as what is to be saved of it."""
        return self.tensor() is x and self.version == x._version and self.kept.stride == saved.stride()


class PruneActivations(pl.Callback):
    """Keeps a share of each convolution's input while the network trains. On the sparse engine too.

    There, what batch norm and the sums fused with it keep stays whole. Pictures are never pruned: the batch is held
    anyway. Without a weight gradient, nothing is saved, and so nothing pruned.
    """

    def __init__(self, density: float) -> None:
        """Names the share, in (0, 1)."""
        self._density = density
        self._handles: list[RemovableHandle] = []
        self._hooks: torch.autograd.graph.saved_tensors_hooks | None = None
        self._running: tuple[nn.Module, Tensor] | None = None
        self._recent: list[_Recent] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Hooks the network and the layers in it that keep the most."""
        assert isinstance(pl_module, Classifier)
        net = pl_module.net
        self._handles = [
            net.register_forward_pre_hook(self._begin),
            net.register_forward_hook(self._end, always_call=True),
        ]
        for layer in net.modules():
            if isinstance(layer, _WATCHED):
                self._handles.append(layer.register_forward_pre_hook(self._enter))
                self._handles.append(layer.register_forward_hook(self._leave, always_call=True))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Takes the hooks off again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _begin(self, net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if net.training and torch.is_grad_enabled():
            self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)
            self._hooks.__enter__()

    def _end(self, net: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        self._running, self._recent = None, []
        if self._hooks is not None:
            self._hooks.__exit__()
            self._hooks = None

    def _enter(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._running = layer, inputs[0]

    def _leave(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        self._running = None

    def _pack(self, tensor: Tensor) -> Tensor | Kept | Gate | Nothing:
        if self._running is None:
            return tensor
        layer, x = self._running
        if isinstance(layer, nn.ReLU):
            return Gate.of(tensor, float("inf"))
        if isinstance(layer, nn.ReLU6):
            return Gate.of(tensor, 6.0)
        # A layer saves other things beside its input. On the sparse engine, that may be a copy in its layout.
        is_input = tensor.data_ptr() == x.data_ptr() or (isinstance(layer, Sparse) and tensor.dim() == 4)
        if not is_input or not x.requires_grad:
            return tensor
        return (
            self._kept(tensor, x)
            if isinstance(layer, nn.Conv2d)
            else Nothing(tensor.shape, tensor.dtype, tensor.device)
        )

    def _kept(self, tensor: Tensor, x: Tensor) -> Kept:
        for recent in self._recent:
            if recent.holds(x, tensor):
                return recent.kept
        kept = Kept.of(tensor, self._density)
        alive = [recent for recent in self._recent if recent.tensor() is not None]
        self._recent = [*alive, _Recent(weakref.ref(x), x._version, kept)]
        return kept

    @staticmethod
    def _unpack(packed: Tensor | Kept | Gate | Nothing) -> Tensor:
        return packed if isinstance(packed, Tensor) else packed.restored()
