"""Which member of a population is next, as Ray Tune asks for it: all of a generation, then those of the one after."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fedtiny.config.load import load
from fedtiny.resumption import fork
from fedtiny.track.sinks import read_records
from tune.folder import Folder
from tune.population import Generation, bred, forked
from tune.request import Request
from tune.search import Listed

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
                self._fork(last)  # whoever ended it may have done so before all were there
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
        generation = bred(
            samples,
            scores,
            self._ends,
            sweep.population,
            sweep.objectives[0],
            sweep.space,
            self._request.base,
            sweep.seed,
        )
        if not scores:  # all have failed
            return
        self._folder.note_generation(generation)
        self._fork(generation)
        self._tell(generation)
        self._ends += sweep.population.every
        self._wait()

    def _fork(self, generation: Generation) -> None:
        samples = self._folder.samples()
        for x in generation.forks:
            parent = self._folder.trial(x.parent)
            name = f"{self._request.base.name}-{x.trial}"
            config = forked(load([parent / "config.yaml"]), samples[x.parent], name, x.sample, generation.round)
            fork(parent, self._folder.trial(x.trial), config, generation.round)
            self._folder.forget_failure(x.trial)

    def _made(self, name: str) -> int:
        """Rounds that a member has made, as far as it can be gone on with."""
        places = (self._folder.trial(name) / "checkpoints").glob("*.safetensors")
        return max((int(place.stem) for place in places), default=0)

    def _score(self, name: str) -> float | None:
        """What a member is compared by at the generation's end; None if it has not come there, or to no number."""
        if self._made(name) < self._ends:
            return None
        record = read_records(self._folder.trial(name) / "rounds.jsonl", self._ends)[-1]
        score = asdict(record)[self._request.sweep.objectives[0].figure]
        return float(score) if score is not None and math.isfinite(score) else None
