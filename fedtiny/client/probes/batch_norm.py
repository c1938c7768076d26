"""Answers `BatchNormStatistics`."""

from dataclasses import dataclass, field
from functools import partial

import torch
from lightning import pytorch as pl
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedtiny.client.module import Classifier
from fedtiny.client.probes.answering import Answering
from fedtiny.payload.probe import Moments, Statistics

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
        """Takes (B, C, H, W) float32; the sums are float64 (Chan et al. 1983)."""
        x_CN = x_BCHW.transpose(0, 1).flatten(1).double()
        count, mean = x_CN.shape[1], x_CN.mean(1)
        total, shift = self.count + count, mean - self.mean
        self.squares = self.squares + ((x_CN - mean[:, None]) ** 2).sum(1) + shift**2 * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    def moments(self) -> Moments:
        """Mean and unbiased variance, float32."""
        return Moments(self.mean.float(), (self.squares / max(1, self.count - 1)).float(), self.count)


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
                self._handles.append(layer.register_forward_pre_hook(partial(self._look, name)))

    def _look(self, name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen[name].add(inputs[0])

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Takes the hooks off again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def answer(self) -> Statistics:
        """What each batch-norm layer saw."""
        return Statistics({name: seen.moments() for name, seen in self._seen.items()})
