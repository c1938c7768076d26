"""A run in a thread of its own, that waits after each evaluated round until it is told to go on, or to end."""

import queue
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedtiny.track.record import RoundRecord, Start
from fedtiny.track.sinks import Sink
from tune.measures import at_the_end, on_the_way

__all__ = ["Going", "Told"]

END_S = 60.0
"""Longest time that a run has to close its fleet and its trackers, after which nobody waits for it any more."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a run tells: its figures so far, or that it is over.

    Attributes:
        figures: Figure -> number.
        over: Whether this is the last that it tells.
        failure: What it raised, in a line; empty if nothing.
        traceback: Where.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    over: bool = False
    failure: str = ""
    traceback: str = ""


class _End(BaseException):
    """Ends the run where it stands; no `except Exception` on the way is to take it for a failure."""


class Going(Sink):
    """A run that is going on."""

    def __init__(self, folder: Path) -> None:
        """Begins to make the run of the folder's config.yaml, or goes on with it."""
        self._folder = folder
        self._told: queue.Queue[Told] = queue.Queue()
        self._on = threading.Semaphore(0)
        self._ending = False
        self._waiting = False
        self._rounds = 0
        self._records: list[RoundRecord] = []
        self._thread = threading.Thread(target=self._make, name="run", daemon=True)
        self._thread.start()

    def next(self) -> Told:
        """Lets it go on if it waits; returns what it tells next."""
        if self._waiting:
            self._on.release()
        told = self._told.get()
        self._waiting = not told.over
        return told

    def end(self) -> bool:
        """Ends it, if it is not over, so that its folder can be gone on with; whether it has ended within `END_S`."""
        self._ending = True
        self._on.release()
        self._thread.join(END_S)
        return not self._thread.is_alive()

    def start(self, start: Start) -> None:
        self._rounds = start.rounds

    def resumed(self, records: Sequence[RoundRecord]) -> None:
        self._records = list(records)

    def saved(self, record: RoundRecord, selection: Mapping[str, float]) -> None:
        self._records.append(record)
        if record.test_accuracy is not None and len(self._records) < self._rounds:  # the last round is told at the end
            self._told.put(Told(on_the_way(self._records, selection)))
            self._on.acquire()
        if self._ending:
            raise _End

    def _make(self) -> None:
        try:  # what cannot be imported on a node is told as well: whoever waits for it would wait for ever
            from fedtiny.compare.folder import free
            from fedtiny.config.load import load
            from fedtiny.prepare import prepare
            from fedtiny.run import run
            from fedtiny.trackers import trackers

            free(self._folder)  # A process that was killed may take a moment to go.
            config = load([self._folder / "config.yaml"])
            run(prepare(config), self._folder, [*trackers(config, self._folder), self], resume=True)
            self._told.put(Told(at_the_end(self._folder), over=True))
        except _End:
            self._told.put(Told(over=True))
        except BaseException as error:  # whatever it is, it is told, and the other trials go on
            line = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._told.put(Told(over=True, failure=line, traceback=traceback.format_exc()))
