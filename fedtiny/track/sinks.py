"""Where a run's numbers go."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from fedtiny.table import Table
from fedtiny.track.record import RoundRecord, Start

__all__ = ["JsonLines", "Sink"]


class Sink:
    """Takes what a run tells, in this order: `start`, `found`, `round` for each round, `finish`; `close` always."""

    def start(self, start: Start) -> None:
        """The run is about to start its clients."""

    def found(self, tables: Sequence[Table]) -> None:
        """The method has chosen its first mask."""

    def round(self, record: RoundRecord) -> None:
        """A round is over."""

    def finish(self, summary: Mapping[str, object]) -> None:
        """All rounds are over, and everything is written."""

    def close(self) -> None:
        """The run has ended, well or not."""


class JsonLines(Sink):
    """One JSON record a round, on disk as soon as the round is over."""

    def __init__(self, path: Path) -> None:
        """Names the file; it is opened at the start."""
        self._path = path
        self._file: IO[str] | None = None

    def start(self, start: Start) -> None:
        self._file = self._path.open("w", encoding="utf-8")

    def round(self, record: RoundRecord) -> None:
        assert self._file is not None
        self._file.write(json.dumps(asdict(record)) + "\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
