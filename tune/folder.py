"""A sweep on disk: what was asked, the samples as they were chosen, and a plain run's folder for each trial."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedtiny.config.load import ConfigError, load, save
from fedtiny.config.schema import RunConfig
from fedtiny.disk import sole, write_whole
from tune.measures import at_the_end
from tune.population import Fork, Generation
from tune.request import Request, requested
from tune.space import Sample, knob
from tune.trial import Trial

__all__ = ["Folder"]

_SWEEP, _SAMPLES, _PROGRESS = "sweep.yaml", "samples.jsonl", "progress.jsonl"
_POPULATION = "population.jsonl"
_FAILED, _STOPPED, _UNENDED = "failure.txt", "stopped.txt", "unended.jsonl"


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a sweep lies. A trial's files say where it stands, so that nothing is lost with the process.

    Attributes:
        path: Its folder.
    """

    path: Path

    def trial(self, name: str) -> Path:
        """A trial's folder."""
        return self.path / "trials" / name

    @property
    def begun(self) -> bool:
        """Whether it holds a sweep."""
        return (self.path / _SWEEP).is_file()

    def write(self, request: Request) -> None:
        """Writes down what was asked."""
        write_whole(self.path / _SWEEP, request.told())

    def read(self) -> Request:
        """What was asked.

        Raises:
            ConfigError: It cannot be read, or is none of ours.
        """
        if not self.begun:
            raise ConfigError([f"{self.path}: holds no sweep (there is no {_SWEEP}); name a sweep's folder"])
        return requested([self.path / _SWEEP])

    def samples(self) -> dict[str, Sample]:
        """Trial -> its sample, in the order in which they were chosen; of a population's members, the last."""
        found = self.first_samples()
        for generation in self.generations():
            found |= {fork.trial: fork.sample for fork in generation.forks}
        return found

    def first_samples(self) -> dict[str, Sample]:
        """Trial -> the sample that it began with."""
        return {told["trial"]: told["sample"] for told in self._lines(_SAMPLES)}

    def add(self, name: str, sample: Sample, config: RunConfig) -> None:
        """Writes down a trial before it begins: its line last, so that a config.yaml without one counts for nothing."""
        path = self.trial(name)
        path.mkdir(parents=True, exist_ok=True)
        save(path / "config.yaml", config)
        self._append(_SAMPLES, {"trial": name, "sample": sample})

    def config(self, name: str) -> RunConfig:
        """A trial's configuration."""
        return load([self.trial(name) / "config.yaml"])

    def note_progress(self, name: str, figures: Mapping[str, float]) -> None:
        """Writes down what a trial came to so far."""
        self._append(_PROGRESS, {"trial": name, **figures})

    def note_generation(self, generation: Generation) -> None:
        """Writes down how a population goes on, before any of it is done."""
        self._append(_POPULATION, asdict(generation))

    def generations(self) -> list[Generation]:
        """How a population went on, so far."""
        return [
            Generation(told["round"], told["scores"], tuple(Fork(**fork) for fork in told["forks"]))
            for told in self._lines(_POPULATION)
        ]

    def forget_failure(self, name: str) -> None:
        """A trial is no failed one any more: it goes on from another."""
        (self.trial(name) / _FAILED).unlink(missing_ok=True)

    def note_stop(self, name: str, reason: str) -> None:
        """Writes down that a trial was ended early, and why, in a line."""
        write_whole(self.trial(name) / _STOPPED, f"{reason}\n")

    def note_failure(self, name: str, reason: str, traceback: str = "") -> None:
        """Writes down why a trial failed, in a line; one that finishes later counts as finished all the same."""
        write_whole(self.trial(name) / _FAILED, f"{reason}\n{traceback}")

    def failure(self, name: str) -> str:
        """Why a trial failed the last time that it was tried, in a line; empty if it did not."""
        return _first_line(self.trial(name) / _FAILED)

    def note_unended(self, name: str) -> None:
        """Writes down that nobody waits any more for a trial's run to end."""
        self._append(_UNENDED, {"trial": name})

    def unended(self) -> list[str]:
        """Trials whose runs nobody waited for any more, since `forget_unended`."""
        return list(dict.fromkeys(told["trial"] for told in self._lines(_UNENDED)))

    def forget_unended(self) -> None:
        """Begins anew with them: the processes of an earlier session are gone."""
        (self.path / _UNENDED).unlink(missing_ok=True)

    def finished(self, name: str) -> bool:
        """Whether a trial's run is over, and well."""
        return (self.trial(name) / "summary.json").is_file()

    def progress(self) -> list[tuple[str, dict[str, float]]]:
        """Trial and figures after each evaluated round, in the order in which they came."""
        return [(told.pop("trial"), told) for told in self._lines(_PROGRESS)]

    def trials(self) -> list[Trial]:
        """All trials as they stand, whether or not they go on."""
        last = dict(self.progress())
        return [self._trial(name, sample, last.get(name, {})) for name, sample in self.samples().items()]

    def one(self, name: str) -> Trial:
        """One trial as it stands."""
        return self._trial(name, self.samples()[name], dict(self.progress()).get(name, {}))

    def _trial(self, name: str, sample: Sample, last: Mapping[str, float]) -> Trial:
        told = {key: knob(value) for key, value in sample.items()}
        folder, last = self.trial(name), _finite(last)
        if self.finished(name):
            figures = _finite(at_the_end(folder))
            return Trial(name, told, "finished", "", int(figures["rounds"]), figures, figures["seconds"])
        rounds, seconds = int(last.get("rounds", 0)), last.get("seconds", 0.0)
        if reason := _first_line(folder / _STOPPED):
            return Trial(name, told, "stopped", reason, rounds, last, seconds)
        if reason := self.failure(name):
            return Trial(name, told, "failed", reason, rounds, last, seconds)
        return Trial(name, told, "waiting", "", rounds, last, seconds)

    def rounds(self, name: str) -> int:
        """Rounds that a trial has made so far."""
        try:
            return (self.trial(name) / "rounds.jsonl").read_bytes().count(b"\n")
        except OSError:
            return 0

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other processes from going on with this sweep meanwhile.

        Raises:
            ConfigError: Another process does, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError([f"out: {self.path} cannot be made ({error.strerror}); name another folder"]) from error
        with sole(self.path) as alone:
            if not alone:
                raise ConfigError([f"{self.path}: this sweep is going on in another process; wait for it, or end it"])
            yield

    def _append(self, name: str, told: Mapping[str, object]) -> None:
        with (self.path / name).open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":  # torn, see _lines: what follows it is to be a line of its own
                    file.write(b"\n")
            file.write(json.dumps(told).encode() + b"\n")

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        try:
            text = (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        for line in text.splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # torn: the process ended while it wrote, and said nothing that was used
                continue


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    """Without those of a run that diverged: nothing is better or worse than NaN, and no axis has a place for it."""
    return {figure: x for figure, x in figures.items() if math.isfinite(x)}


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0] if path.is_file() else ""
