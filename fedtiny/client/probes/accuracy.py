"""Answers `LocalAccuracy`."""

from lightning import pytorch as pl
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedtiny.client.module import Batch, Classifier
from fedtiny.client.probes.answering import Answering
from fedtiny.payload.probes import Accuracy

__all__ = ["CountCorrect"]


class CountCorrect(Answering):
    """Compares the network's predictions for the validation batches with their labels."""

    def __init__(self) -> None:
        """Starts from nothing."""
        self._correct, self._examples = 0, 0
        self._predicted: Tensor | None = None
        self._handle: RemovableHandle | None = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Watches what the network says."""
        assert isinstance(pl_module, Classifier)
        self._handle = pl_module.net.register_forward_hook(self._look)

    def _look(self, net: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._predicted = output.detach().argmax(1)

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
        assert self._predicted is not None
        self._correct += int((self._predicted == batch[1]).sum())
        self._examples += len(batch[1])

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Takes the hook off again."""
        if self._handle is not None:
            self._handle.remove()
        self._handle = None

    def answer(self) -> Accuracy:
        """The correct ones, and all."""
        return Accuracy(self._correct, self._examples)
