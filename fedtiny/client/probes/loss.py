"""Answers `LocalLoss`."""

from lightning import pytorch as pl
from torch import Tensor

from fedtiny.client.module import Batch
from fedtiny.client.probes.answering import Answering
from fedtiny.payload.probes import Loss

__all__ = ["SumLoss"]


class SumLoss(Answering):
    """Adds up the losses of the validation batches."""

    def __init__(self) -> None:
        """Starts from nothing."""
        self._total, self._examples = 0.0, 0

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Takes one batch."""
        assert isinstance(outputs, Tensor)
        self._total += float(outputs)
        self._examples += len(batch[1])

    def answer(self) -> Loss:
        """The sum and the number of examples behind it."""
        return Loss(self._total, self._examples)
