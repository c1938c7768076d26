"""What becomes of trials, written down and shown: a table on a terminal, a line a change elsewhere."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from ray.exceptions import RayError
from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from fedtiny.fleets.pool import died
from tune.folder import Folder
from tune.measures import ON_THE_WAY
from tune.population import Generation
from tune.results import best, came_to
from tune.sweep import Sweep
from tune.trainable import name_of
from tune.trial import Trial

__all__ = ["Watch"]

SHOWN = 16
"""Trials that a table on a terminal shows: those that go on, then the last that ended."""


class Watch(Callback):
    """Sits beside Tune in the sweep's own process."""

    def __init__(self, folder: Folder, sweep: Sweep, rounds: int, total: int) -> None:
        """Prepares to watch.

        Args:
            folder: The sweep's.
            sweep: The sweep.
            rounds: Rounds of a trial whose sample says nothing of them.
            total: Trials in all.
        """
        self._folder, self._sweep, self._usual, self._total = folder, sweep, rounds, total
        self._terminal = Console(highlight=False)
        self._trials = {trial.name: trial for trial in folder.trials()}
        self._running: list[str] = []
        self._began, self._before = time.monotonic(), self._done()
        self._live = Live(console=self._terminal, auto_refresh=False, transient=True)

    def __getstate__(self) -> dict[str, object]:
        """Nothing: Tune writes its parts down, and a terminal cannot be."""
        return {}

    def __enter__(self) -> Self:
        if self._terminal.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: object) -> None:
        """A trial begins, or is tried again."""
        name = name_of(trial)
        if name not in self._running:
            self._running.append(name)
        if name not in self._trials:  # just thought of
            self._read(name)
        self._show()

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: Mapping[str, object], **info: object
    ) -> None:
        """A trial has come further."""
        if not self._folder.finished(name_of(trial)):  # the result on which a trial is stopped says that it is done too
            figures = {key: x for key, x in result.items() if key in ON_THE_WAY and isinstance(x, int | float)}
            self._folder.note_progress(name_of(trial), figures)
            self._read(name_of(trial), figures)
        self._show()

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: object) -> None:
        """A trial is over: it has finished, or was stopped early."""
        name = name_of(trial)
        finished = self._folder.finished(name)
        if "until" in trial.config and not finished:  # a member, until its generation is over
            self._rest(name)
            return
        if not finished:
            told = dict(self._folder.progress()).get(name, {})
            figure = self._sweep.objectives[0].figure
            by = self._sweep.scheduler
            spent = "" if by.on == "rounds" else f", {told.get(by.on, 0.0):.3g} {by.on}"
            self._folder.note_stop(
                name,
                f"{by.name}, after {int(told.get('rounds', 0))} rounds{spent}: {figure} {told.get(figure, 0.0):.4g}",
            )
        self._over(name)

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: object) -> None:
        """A trial has failed as often as it may."""
        error = trial.get_pickled_error()
        if isinstance(error, RayError) and not self._folder.failure(name_of(trial)):
            reason, _, _ = died(error)
            self._folder.note_failure(name_of(trial), reason)
        self._over(name_of(trial))

    def bred(self, generation: Generation) -> None:
        """A generation is over, and the next one begins."""
        self._trials = {trial.name: trial for trial in self._folder.trials()}
        first = self._sweep.objectives[0]
        top = max(generation.scores.values(), key=first.worth)
        line = [f"{generation.round:>4} rounds: best {first.figure} {top:.4g}"]
        line += [f"{x.trial} goes on from {x.parent} with {_sample(self._trials[x.trial])}" for x in generation.forks]
        self._terminal.print(escape("; ".join(line)), soft_wrap=True)
        self._show()

    def _rest(self, name: str) -> None:
        """It goes on no more."""
        self._running = [other for other in self._running if other != name]
        self._read(name)
        self._show()

    def _over(self, name: str) -> None:
        self._rest(name)
        if self._terminal.is_terminal:
            return
        trial = self._trials[name]
        told = [came_to(trial, self._sweep.objectives[:1]), f"{trial.seconds:.0f} s"]
        became = f"({trial.reason})" if trial.reason else ", ".join(x for x in told if x)
        done = sum(x.ended for x in self._trials.values())
        line = [f"{done}/{self._total}".rjust(9), f"{name} {_sample(trial)}: {trial.status}", became]
        tail = [x for x in (self._best(), self._eta()) if x]
        self._terminal.print(escape(" ".join(line) + "".join(f"; {x}" for x in tail)), soft_wrap=True)

    def _read(self, name: str, figures: Mapping[str, float] | None = None) -> None:
        if figures is not None:
            sample = self._trials[name].sample
            told = Trial(
                name, sample, "running", "", int(figures.get("rounds", 0)), figures, figures.get("seconds", 0.0)
            )
            self._trials[name] = told
        else:
            self._trials[name] = self._folder.one(name)

    def _done(self) -> float:
        """Trials that are over, and the made share of those that are not."""
        return sum(1.0 if trial.ended else trial.rounds / self._rounds(trial) for trial in self._trials.values())

    def _rounds(self, trial: Trial) -> int:
        """Rounds that it is to make."""
        asked = trial.sample.get("rounds")
        return asked if isinstance(asked, int) else self._usual

    def _eta(self) -> str:
        """From what was made since the start: a guess, since trials take different times."""
        made, left = self._done() - self._before, self._total - self._done()
        if made <= 0 or left <= 0:
            return ""
        minutes, seconds = divmod(int((time.monotonic() - self._began) / made * left), 60)
        return (
            f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left"
            if minutes >= 60
            else f"{minutes}:{seconds:02d} left"
        )

    def _best(self) -> str:
        found = best(list(self._trials.values()), self._sweep)
        if found is None:
            return ""
        return f"best {found.name}: {came_to(found, self._sweep.objectives)}"

    def _show(self) -> None:
        if not self._terminal.is_terminal:
            return
        over = [x for x in self._trials.values() if x.ended]
        title = "; ".join(x for x in (f"{len(over)} of {self._total} trials", self._best(), self._eta()) if x)
        shown = Table(title=title, title_justify="left")
        for heading in ("trial", "", "rounds", "sample", *(x.figure for x in self._sweep.objectives)):
            shown.add_column(heading)
        going = [self._trials[name] for name in self._running if name in self._trials]
        for trial in [*going, *over[::-1]][:SHOWN]:
            status = "running" if trial in going else trial.status
            figures = [
                f"{trial.figures[x.figure]:.4g}" if x.figure in trial.figures else "" for x in self._sweep.objectives
            ]
            shown.add_row(trial.name, status, f"{trial.rounds}/{self._rounds(trial)}", escape(_sample(trial)), *figures)
        self._live.update(shown, refresh=True)


def _sample(trial: Trial) -> str:
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in trial.sample.items()
    )
