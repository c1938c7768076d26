"""What every probe's callback promises."""

from lightning import pytorch as pl

from fedtiny.payload.probes import Answer

__all__ = ["Answering"]


class Answering(pl.Callback):
    """A callback that measures while the trainer runs, and answers when it is done."""

    def answer(self) -> Answer:
        """What was measured; read once, after the trainer has returned."""
        raise NotImplementedError
