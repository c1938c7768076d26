"""Which trial is next, as Ray Tune asks for it."""

from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from fedtiny.config.load import ConfigError
from tune.folder import Folder
from tune.request import Request, configured
from tune.study import Study

__all__ = ["Listed", "Thought"]

TRIES = 100
"""Samples that do not fit, one after the other, after which none is thought of any more."""


class Listed(Searcher):
    """Hands out the trials that are left, so many at a time at most."""

    def __init__(self, folder: Folder, request: Request, left: Sequence[str], at_once: int) -> None:
        """Takes the trials that are written down and left to make."""
        first = request.sweep.objectives[0]
        super().__init__(metric=first.figure, mode=first.direction)
        self._folder, self._request, self._at_once = folder, request, at_once
        self._left, self._live = list(left), dict[str, str]()

    def __getstate__(self) -> dict[str, object]:
        """Nothing: Tune writes its parts down, and the sweep's folder says all."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial; None while there is no room for it."""
        if len(self._live) >= self._at_once:
            return None
        name = self._left.pop(0) if self._left else self._new()
        if name is None:
            return Searcher.FINISHED
        self._live[trial_id] = name
        return {"sweep": str(self._folder.path.resolve()), "trial": name}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Makes room."""
        if name := self._live.pop(trial_id, None):
            self._over(name, result or {}, error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the sweep's folder says all."""

    def restore(self, checkpoint_path: str) -> None:
        """Likewise."""

    def _new(self) -> str | None:
        return None

    def _over(self, name: str, figures: Mapping[str, Any], failed: bool) -> None:
        pass


class Thought(Listed):
    """Thinks of a trial when there is room for it."""

    def __init__(self, folder: Folder, request: Request, left: Sequence[str], at_once: int) -> None:
        """Learns from the trials that are written down, in their order."""
        super().__init__(folder, request, left, at_once)
        self._study = Study(request.sweep, request.base, len(folder.samples()))
        trials = {trial.name: trial for trial in folder.trials()}
        for name, sample in folder.samples().items():
            self._study.remember(name, sample)
            if trials[name].status == "finished":
                self._study.finished(name, trials[name].figures)
            elif trials[name].status == "stopped":
                self._study.stopped(name, trials[name].figures)
        self._count = len(trials)

    def _new(self) -> str | None:
        for _ in range(TRIES):
            if self._count >= (self._request.sweep.samples or 0):
                return None
            name = f"{self._count:04d}"
            sample = self._study.ask(name)
            try:
                config = configured(self._request.base, name, sample)
            except ConfigError:  # Each value fits by itself: these do not fit together.
                self._study.failed(name)
                continue
            self._folder.add(name, sample, config)
            self._count += 1
            return name
        return None

    def _over(self, name: str, figures: Mapping[str, Any], failed: bool) -> None:
        if self._folder.finished(name):
            self._study.finished(name, self._folder.one(name).figures)
        elif failed:
            self._study.failed(name)
        else:
            self._study.stopped(name, figures)
