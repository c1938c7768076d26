"""Which member of a population is next, as Ray Tune asks for it: all of a generation, then those of the one after."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from fedtiny.config.load import ConfigError
from fedtiny.config.schema import RunConfig
from fedtiny.resumption import fork
from fedtiny.server.checkpoint import last_round
from fedtiny.track.sinks import read_records
from tune.folder import Folder
from tune.population import Fork, Generation, bred, forked
from tune.request import Request
from tune.search import Listed
from tune.space import Sample

__all__ = ["Bred"]


class Bred(Listed):
    """Hands out the members of a generation; when all have come to its end, the weak go on from the strong."""

    def __init__(self, folder: Folder, request: Request, at_once: int, tell: Callable[[Generation], None]) -> None:
        """Goes on where the folder's population stands.

        Args:
            folder: The sweep's, with its members.
            request: What was asked.
            at_once: Members at a time at most.
            tell: Is told of each generation that is over.
        """
        super().__init__(folder, request, [], at_once)
        self._tell = tell
        generations = folder.generations()
        self._ends = request.sweep.population.every
        if generations:
            last = generations[-1]
            self._ends += last.round
            if max(map(self._made, folder.samples())) <= last.round:
                # Whoever ended it may have done so before all were there.
                self._fork(last)
        self._wait()

    def suggest(self, trial_id: str) -> Any:
        """The next member; None while the others of its generation are not there yet."""
        if not self._left and self._live:
            return None
        if not self._left and self._ends < self._request.base.rounds:
            self._breed()
        told = super().suggest(trial_id)
        return {**told, "until": self._ends} if isinstance(told, dict) else told

    def _wait(self) -> None:
        """Leaves whoever has not come to the generation's end."""
        self._ends = min(self._ends, self._request.base.rounds)
        names = self._folder.samples()
        self._left = [x for x in names if not self._folder.finished(x) and self._made(x) < self._ends]

    def _breed(self) -> None:
        sweep, samples = self._request.sweep, self._folder.samples()
        scores = {name: score for name in samples if (score := self._score(name)) is not None}
        if not scores:  # all have failed, or have come to no number
            for name in samples:
                if not self._folder.failure(name):
                    figure = sweep.objectives[0].figure
                    self._folder.note_failure(name, f"{figure} is no finite number after {self._ends} rounds")
            return
        generation = self._fitting(bred(sweep, self._request.base, samples, scores, self._ends), samples)
        self._folder.note_generation(generation)
        self._fork(generation)
        self._tell(generation)
        self._ends += sweep.population.every
        self._wait()

    def _fitting(self, generation: Generation, samples: Mapping[str, Sample]) -> Generation:
        """The generation; settings that do not fit each other give way to the parent's."""
        forks = []
        for x in generation.forks:
            try:
                self._config(x, generation.round, samples)
            except ConfigError:
                x = replace(x, sample=samples[x.parent])
            forks.append(x)
        return replace(generation, forks=tuple(forks))

    def _config(self, x: Fork, made: int, samples: Mapping[str, Sample]) -> RunConfig:
        """Of a run that goes on from another.

        Raises:
            ConfigError: Settings do not fit each other.
        """
        base = self._request.base
        return forked(base, self._folder.config(x.parent), samples[x.parent], f"{base.name}-{x.trial}", x.sample, made)

    def _fork(self, generation: Generation) -> None:
        samples = self._folder.samples()
        for x in generation.forks:
            config = self._config(x, generation.round, samples)
            fork(self._folder.trial(x.parent), self._folder.trial(x.trial), config, generation.round)
            self._folder.forget_failure(x.trial)

    def _made(self, name: str) -> int:
        """Rounds that a member has made, as far as it can be gone on with."""
        return last_round(self._folder.trial(name) / "checkpoints")

    def _score(self, name: str) -> float | None:
        """What a member is compared by at the generation's end; None if it has not come there, or to no number."""
        if self._made(name) < self._ends:
            return None
        record = read_records(self._folder.trial(name) / "rounds.jsonl", self._ends)[-1]
        score = asdict(record)[self._request.sweep.objectives[0].figure]
        return float(score) if score is not None and math.isfinite(score) else None
