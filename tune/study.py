"""Optuna's part of a sweep: thinks of samples, and learns from what became of those before."""

from collections.abc import Mapping
from typing import Literal

import optuna
from optuna.trial import TrialState

from fedtiny import seeds
from fedtiny.config.schema import RunConfig
from tune.space import Dimension, Sample, drawn, knob, taken
from tune.sweep import Sweep

__all__ = ["Study"]

_DIRECTIONS: Mapping[str, Literal["maximize", "minimize"]] = {"max": "maximize", "min": "minimize"}


class Study:
    """Tree-structured Parzen estimators over the space, with its conditions, objectives and constraints.

    Trials that go on are taken for bad ones meanwhile, so that those beside them look elsewhere.
    """

    def __init__(self, sweep: Sweep, base: RunConfig, known: int = 0) -> None:
        """Knows nothing yet: the first third of the samples, ten at most, is drawn by chance.

        Args:
            sweep: The sweep.
            base: The run that trials are variations of.
            known: Trials that it will be told to remember: what it draws after them is not what they were drawn from.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sweep, self._base = sweep, base
        self._asked: dict[str, optuna.Trial] = {}
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=max(1, min(10, (sweep.samples or 1) // 3)),
            seed=seeds.number(sweep.seed, "sweep", known),
            constant_liar=True,
        )
        directions = [_DIRECTIONS[objective.direction] for objective in sweep.objectives]
        self._study = optuna.create_study(sampler=sampler, directions=directions)

    def ask(self, name: str) -> Sample:
        """A new sample, for a trial of that name."""
        trial = self._study.ask()
        self._asked[name] = trial
        return drawn(self._sweep.space, self._base, lambda key, dimension: _suggested(trial, key, dimension))

    def remember(self, name: str, sample: Sample) -> None:
        """Takes up a trial that was thought of in an earlier process."""
        params = {}
        for key in self._sweep.space:
            for value in taken(sample, key):
                params[key] = knob(value)
        self._study.enqueue_trial(params)
        self.ask(name)

    def finished(self, name: str, figures: Mapping[str, float]) -> None:
        """Learns what a trial came to; nothing, if it diverged and lacks a figure that is looked for."""
        wanted = [objective.figure for objective in self._sweep.objectives]
        if all(figure in figures for figure in wanted):
            self._study.tell(self._judged(name, figures), [figures[figure] for figure in wanted])
        else:
            self.failed(name)

    def stopped(self, name: str, figures: Mapping[str, float]) -> None:
        """Learns that a trial was ended early. With several objectives it says nothing: bytes so far are not bytes."""
        trial, objectives = self._judged(name, figures), self._sweep.objectives
        if len(objectives) == 1 and objectives[0].figure in figures:
            trial.report(figures[objectives[0].figure], int(figures["rounds"]))
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def failed(self, name: str) -> None:
        """Learns that there is nothing to learn of a trial."""
        self._study.tell(self._asked.pop(name), state=TrialState.FAIL)

    def _judged(self, name: str, figures: Mapping[str, float]) -> optuna.Trial:
        trial = self._asked.pop(name)
        for constraint in self._sweep.constraints:
            trial.set_constraint(str(constraint), constraint.excess(figures))
        return trial


def _suggested(trial: optuna.Trial, key: str, dimension: Dimension) -> object:
    if dimension.listed:  # Optuna chooses between plain values: lists and mappings are told as JSON.
        options = [knob(value) for value in dimension.values]
        return dimension.values[options.index(trial.suggest_categorical(key, options))]
    low, high = dimension.ends
    if dimension.kind == "randint":
        return trial.suggest_int(key, int(low), int(high))
    return trial.suggest_float(key, low, high, log=dimension.kind == "loguniform")
