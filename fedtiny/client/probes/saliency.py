"""Answers `Saliency`."""

from lightning import pytorch as pl
from torch import Tensor

from fedtiny.client.module import Batch, Classifier
from fedtiny.client.probes.answering import Answering
from fedtiny.client.probes.gradients import gradients, normalised
from fedtiny.payload.probes import Saliency, Scores

__all__ = ["CollectSaliency"]


class CollectSaliency(Answering):
    """Adds up the batches' gradients; the product with the weights is taken once, of the sum."""

    def __init__(self, probe: Saliency) -> None:
        """Starts from nothing."""
        self._names = probe.layers
        self._sums: list[Tensor] = []
        self._scores: list[Tensor] = []

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Takes one batch."""
        assert isinstance(pl_module, Classifier)
        parts = gradients(pl_module.net, self._names, batch)
        self._sums = [x + part for x, part in zip(self._sums, parts, strict=True)] if self._sums else list(parts)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Multiplies with the weights while they are there."""
        assert isinstance(pl_module, Classifier)
        weights = (pl_module.net.get_parameter(name).detach() for name in self._names)
        self._scores = normalised([(g * weight).abs() for g, weight in zip(self._sums, weights, strict=True)])
        self._sums = []

    def answer(self) -> Scores:
        """One score a weight."""
        return Scores(dict(zip(self._names, (score.cpu() for score in self._scores), strict=True)))
