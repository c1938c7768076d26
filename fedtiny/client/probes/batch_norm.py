"""Answers `BatchNormStatistics`."""

from dataclasses import dataclass, field
from functools import partial

import torch
from lightning import pytorch as pl
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedtiny.client.module import Classifier
from fedtiny.client.probes.answering import Answering
from fedtiny.payload.probes import Moments, Statistics
from fedtiny.sparse.engine.layers import BatchNorm2d

__all__ = ["CollectStatistics", "RunningMoments"]


@dataclass(slots=True)
class RunningMoments:
    """Mean and variance of all values seen, whatever the sizes of the batches they came in.

    Nothing of an initial guess survives, as it would in an exponential average: after ten batches with momentum 0.1
    a third of it is left.
    """

    count: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))

    def add(self, x_BCHW: Tensor) -> None:
        """Takes (B, C, H, W) float32; the sums are float64."""
        x_CN = x_BCHW.transpose(0, 1).flatten(1).double()
        var, mean = torch.var_mean(x_CN, 1, correction=0)
        self.merge(x_CN.shape[1], mean, var)

    def merge(self, count: int, mean: Tensor, var: Tensor) -> None:
        """Takes (C,) mean and biased variance of `count` values (Chan et al. 1983)."""
        mean, var = mean.double(), var.double()
        if self.count == 0:
            self.mean, self.squares = self.mean.to(mean.device), self.squares.to(mean.device)
        total, shift = self.count + count, mean - self.mean
        self.squares = self.squares + var * count + shift**2 * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    def moments(self) -> Moments:
        """Mean and unbiased variance, float32, on the CPU."""
        var = self.squares / max(1, self.count - 1)
        return Moments(self.mean.float().cpu(), var.float().cpu(), self.count)


class CollectStatistics(Answering):
    """Watches what enters each batch-norm layer, while these normalise with the batch's own statistics."""

    def __init__(self) -> None:
        """Starts from nothing."""
        self._seen: dict[str, RunningMoments] = {}
        self._handles: list[RemovableHandle] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts batch norm in training mode, after Lightning has put everything in evaluation mode."""
        assert isinstance(pl_module, Classifier)
        for name, layer in pl_module.net.named_modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.train()
                self._seen[name] = RunningMoments()
                self._handles.append(layer.register_forward_hook(partial(self._look, name)))

    def _look(self, name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = inputs[0]
        if isinstance(layer, BatchNorm2d):  # has measured them already
            mean, var = layer.measured
            self._seen[name].merge(x.numel() // x.shape[1], mean, var)
        else:
            self._seen[name].add(x)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Takes the hooks off again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def answer(self) -> Statistics:
        """What each batch-norm layer saw."""
        return Statistics({name: seen.moments() for name, seen in self._seen.items()})
