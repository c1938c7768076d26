"""Answers `GradientFlow`."""

from lightning import pytorch as pl
from torch import Tensor, nn

from fedtiny.client.module import Batch, Classifier
from fedtiny.client.probes.answering import Answering
from fedtiny.client.probes.gradients import flow_scores, normalised
from fedtiny.payload.probes import GradientFlow, Scores

__all__ = ["CollectGradientFlow"]


class CollectGradientFlow(Answering):
    """Keeps the batches, since each is needed twice: for the gradient of all, then for what the Hessian makes of it."""

    def __init__(self, probe: GradientFlow) -> None:
        """Starts from nothing."""
        self._probe = probe
        self._batches: list[Batch] = []
        self._scores: list[Tensor] = []

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps one batch."""
        self._batches.append(batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Scores all weights that the gradient flows to, and keeps the scores asked for."""
        assert isinstance(pl_module, Classifier)
        net = pl_module.net
        names = [
            f"{name}.weight".removeprefix(".")
            for name, layer in net.named_modules()
            if isinstance(layer, (nn.Conv2d, nn.Linear))
        ]
        scores = dict(zip(names, flow_scores(net, names, self._batches, self._probe.temperature), strict=True))
        self._scores = normalised([scores[name] for name in self._probe.layers])
        self._batches = []

    def answer(self) -> Scores:
        """One score a weight; the largest are of those whose loss raises the gradient's norm the most."""
        return Scores(dict(zip(self._probe.layers, (score.cpu() for score in self._scores), strict=True)))
