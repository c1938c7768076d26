"""Where a run's numbers go."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from fedtiny.disk import write_whole
from fedtiny.table import Table
from fedtiny.track.record import RoundRecord, Start

__all__ = ["JsonLines", "Sink", "read_records"]


class Sink:
    """Takes what a run tells: `start`, `found`, `resumed`, `round`, `saved` each round, `finish`; `close` always."""

    def start(self, start: Start) -> None:
        """The run is about to start its clients."""

    def found(self, tables: Sequence[Table]) -> None:
        """The method has chosen its first mask."""

    def resumed(self, records: Sequence[RoundRecord]) -> None:
        """These rounds were made before; none in a run that was not broken off."""

    def remark(self, text: str) -> None:
        """Something that a person should know, in a line."""

    def trouble(self, text: str) -> None:
        """The first client has failed: who, when and why, then the traceback if there is one."""

    def round(self, record: RoundRecord) -> None:
        """A round is over."""

    def saved(self, record: RoundRecord, selection: Mapping[str, float]) -> None:
        """The round's checkpoint is on disk: whoever ends the run here, by raising, can have it gone on with.

        Args:
            record: The round's.
            selection: What the selection before the first round came to: upload_bytes, download_bytes, flops.
        """

    def finish(self, summary: Mapping[str, object]) -> None:
        """All rounds are over, and everything is written."""

    def close(self) -> None:
        """The run has ended, well or not."""


class JsonLines(Sink):
    """One JSON record a round, on disk as soon as the round is over."""

    def __init__(self, path: Path, before: Sequence[RoundRecord] = ()) -> None:
        """Names the file, and the rounds that it begins with; it is written at the start."""
        self._path, self._before = path, before
        self._file: IO[str] | None = None

    def start(self, start: Start) -> None:
        write_whole(self._path, "".join(_line(record) for record in self._before))
        self._file = self._path.open("a", encoding="utf-8")

    def round(self, record: RoundRecord) -> None:
        assert self._file is not None
        self._file.write(_line(record))
        self._file.flush()
        os.fsync(self._file.fileno())  # A checkpoint follows, and is not to know of more rounds than this file.

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _line(record: RoundRecord) -> str:
    return json.dumps(asdict(record)) + "\n"


def read_records(path: Path, rounds: int) -> list[RoundRecord]:
    """The first `rounds` records of a `rounds.jsonl`."""
    lines = path.read_text(encoding="utf-8").splitlines()[:rounds]
    told = [json.loads(line) for line in lines]
    for fields in told:
        fields |= {key: tuple(fields[key]) for key in ("clients", "late", "surplus")}
    return [RoundRecord(**fields) for fields in told]
