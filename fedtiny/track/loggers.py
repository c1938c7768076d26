"""Lightning's own loggers, for those without W&B; the only place outside the client where Lightning is imported.

Each writes to a folder of its own in the run's. A run that goes on writes it anew, with all rounds: nothing in it is
doubled or missing, however the run was broken off.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fedtiny.table import Table
from fedtiny.track.guarded import Guarded, never_fatal
from fedtiny.track.pictures import density_heat_map
from fedtiny.track.record import RoundRecord, Start
from fedtiny.track.scalars import Scalars, flat

if TYPE_CHECKING:
    from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

__all__ = ["Csv", "TensorBoard"]


class _Logged(Guarded):
    """What both have in common: rounds as steps, from 1."""

    kind: Literal["csv", "tensorboard"]

    def __init__(self, folder: Path, config: Mapping[str, object]) -> None:
        """Prepares to write.

        Args:
            folder: The run's folder; the log lies in its folder `csv` or `tensorboard`.
            config: The whole configuration.
        """
        super().__init__()
        self._folder, self._config = folder / self.kind, config
        self._scalars = Scalars()
        self._records: list[RoundRecord] = []
        self._logger: Logger | None = None

    def _opened(self) -> "Logger":
        raise NotImplementedError

    @never_fatal
    def start(self, start: Start) -> None:
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._logger = self._opened()

    def resumed(self, records: Sequence[RoundRecord]) -> None:
        for record in records:
            self.round(record)

    @never_fatal
    def round(self, record: RoundRecord) -> None:
        assert self._logger is not None
        self._logger.log_metrics(self._scalars.of(record), record.round + 1)
        self._logger.save()
        self._records.append(record)

    @never_fatal
    def close(self) -> None:
        if self._logger is not None:
            self._logger.finalize("success")
            self._logger = None


class Csv(_Logged):
    """`csv/metrics.csv`: a line a round, a column a number; and `csv/hparams.yaml`, the configuration."""

    kind = "csv"
    label = "CSV"

    def _opened(self) -> "CSVLogger":
        from lightning.pytorch.loggers import CSVLogger

        logger = CSVLogger(self._folder, name="", version="", flush_logs_every_n_steps=1)
        logger.log_hyperparams(dict(self._config))
        return logger


class TensorBoard(_Logged):
    """`tensorboard/`: numbers a round, what the method found, densities as a picture, settings beside the result.

    `tensorboard --logdir FOLDER` shows all runs below a folder; its tab HPARAMS has their parallel coordinates.
    """

    kind = "tensorboard"
    label = "TensorBoard"

    def _opened(self) -> "TensorBoardLogger":
        from lightning.pytorch.loggers import TensorBoardLogger

        self._board = TensorBoardLogger(self._folder, name="", version="", default_hp_metric=False)
        self._board.log_hyperparams(dict(self._config))
        return self._board

    @never_fatal
    def found(self, tables: Sequence[Table]) -> None:
        for table in tables:
            self._board.experiment.add_text(table.title.lower(), _markdown(table), 0)

    @never_fatal
    def finish(self, summary: Mapping[str, object]) -> None:
        if self._records and self._records[0].layer_densities:
            picture = np.asarray(density_heat_map(self._records))
            self._board.experiment.add_image("layer_densities", picture, len(self._records), dataformats="HWC")
        figures = {f"final/{k}": v for k, v in flat(summary).items() if isinstance(v, int | float)}
        self._board.log_hyperparams(flat(self._config), figures, len(self._records))


def _markdown(table: Table) -> str:
    head = "".join(f"| {column} " for column in (*table.columns, "chosen"))
    rule = "| --- " * (len(table.columns) + 1)
    rows = [
        "".join(f"| {cell} " for cell in (*row, "yes" if i == table.chosen else "")) for i, row in enumerate(table.rows)
    ]
    return "\n".join(f"{line}|" for line in (head, rule, *rows))
