"""The LightningModule of every client: a classifier trained with cross-entropy."""

import inspect
from collections.abc import Iterable

import torch
from lightning import pytorch as pl
from torch import Tensor, nn
from torch.nn import functional

from fedtiny.payload.training import Training

__all__ = ["Classifier"]

Batch = tuple[Tensor, Tensor]


class Classifier(pl.LightningModule):
    """A network, its loss and its optimizer.

    Attributes:
        net: The network: (B, C, H, W) float32 -> (B, classes) logits.
        training_settings: How to train; set before each fit.
        trainable: What the optimizer moves: the network's parameters, or, under `KeepMask`, the kept weights alone.
    """

    def __init__(self, net: nn.Module) -> None:
        """Wraps `net`."""
        super().__init__()
        self.net = net
        self.training_settings = Training()
        self.trainable: Iterable[nn.Parameter] = ()
        self._losses: list[Tensor] = []
        self._examples: list[int] = []
        # Lightning then leaves zeroing, the backward pass and the step to `training_step`: they are three lines there,
        # and a third of a small step's time if each goes through its hooks.
        self.automatic_optimization = False

    def __setattr__(self, name: str, value: Tensor | nn.Module) -> None:
        """Sets an attribute; that of Lightning which changes twice a hook, without PyTorch's search for parameters."""
        if name == "_current_fx_name":
            vars(self)[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float32 -> (B, classes) logits."""
        return torch.as_tensor(self.net(images))

    @property
    def epoch_loss(self) -> float:
        """Mean training loss of the current epoch, weighted by examples; NaN if the client diverged."""
        examples = torch.tensor(self._examples, device=self.device)
        return float((torch.stack(self._losses) * examples).sum() / examples.sum())

    def on_train_epoch_start(self) -> None:
        """Starts the epoch's mean loss anew."""
        self._losses, self._examples = [], []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean cross-entropy of the batch."""
        images, labels = batch
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        _forget_gradients(optimizer)
        loss = functional.cross_entropy(self(images), labels)
        loss.backward()
        if (longest := self.training_settings.clip_norm) is not None:
            nn.utils.clip_grad_norm_([x for group in optimizer.param_groups for x in group["params"]], longest)
        optimizer.step()
        told = loss.detach()
        self._losses.append(told)
        self._examples.append(len(labels))
        return told

    # Lightning looks at it in every step, and Python makes it anew each time unless it is there.
    vars(training_step)["__signature__"] = inspect.signature(training_step)

    def on_train_end(self) -> None:
        """Frees the gradients: the mask of the next client may leave other layers dense."""
        for optimizer in self.trainer.optimizers:
            _forget_gradients(optimizer)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Summed cross-entropy of the batch: probes that need it read it from the hook's `outputs`."""
        images, labels = batch
        return functional.cross_entropy(self(images), labels, reduction="sum")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD, new for every fit: no optimizer state survives a round, as in the papers."""
        how = self.training_settings
        # Not fused, which would be faster: with momentum it rounds otherwise at the end of a tensor.
        return torch.optim.SGD(self.trainable, lr=how.lr, momentum=how.momentum, weight_decay=how.weight_decay)


def _forget_gradients(optimizer: torch.optim.Optimizer) -> None:
    """What `zero_grad` does, without what it tells PyTorch's profiler: that takes eight times as long."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
