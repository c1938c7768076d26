"""A sweep, completely: its space, how it is searched, what for, and who is stopped early."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from fedtiny.value import Value
from tune.constraint import Constraint
from tune.measures import FINAL, OF_A_ROUND, ON_THE_WAY
from tune.objective import Objective
from tune.space import Dimension, named, ordered

__all__ = ["Population", "Scheduler", "Sweep"]


class Scheduler(Value):
    """Who stops trials that promise little."""

    name: Literal["none", "asha", "median"] = "none"
    """asha: asynchronous successive halving; median: whoever is worse than the median of the others so far."""
    on: Literal["rounds", "bytes", "flops"] = "rounds"
    """What a trial's progress is measured in: rounds, bytes up and down, or FLOPs of the busiest client."""
    grace: Annotated[float, Field(gt=0)] = 1.0
    """What each trial may spend, in that unit, before it can be stopped."""
    reduction: Annotated[float, Field(gt=1)] = 3.0
    """asha: of so many trials that come to a rung, one goes on; the next rung is so many times as far."""
    rungs: Annotated[int, Field(ge=1)] = 8
    """asha: rungs at most; the first is at `grace`."""
    least: Annotated[int, Field(ge=1)] = 3
    """median: trials that must have come as far before one is stopped."""

    @model_validator(mode="after")
    def _fits(self) -> "Scheduler":
        if self.name != "none" and self.on != "rounds" and "grace" not in self.model_fields_set:
            raise ValueError(f"grace must be given where it is counted in {self.on}")
        return self


class Population(Value):
    """How a population is bred: see `tune.population`."""

    every: Annotated[int, Field(ge=1)] = 10
    """Rounds of a generation."""
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Share of the members that go on from another one, and of those that they go on from: one at least."""
    anew: Annotated[float, Field(ge=0, le=1)] = 0.25
    """How often a setting is drawn anew from the space, rather than moved a bit."""


class Sweep(Value):
    """Many runs that are variations of one."""

    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """Dotted key of a run's configuration -> its values."""
    search: Literal["grid", "random", "optuna", "population"] = "grid"
    """grid: all combinations; random: `samples` by chance; optuna: `samples`, each learning from those before;
    population: `samples` by chance, whose settings change on the way, the weak going on from the strong."""
    samples: Annotated[int, Field(ge=1)] | None = None
    """Trials of a search that is no grid; members of a population."""
    population: Population = Population()
    """How a population is bred."""
    seed: Annotated[int, Field(ge=0)] = 0
    """What chance depends on; the runs' own seed is the key `seed`."""
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = (
        Objective(figure="validation_accuracy", direction="max"),
    )
    """What is looked for; the first decides what is stopped early and what is the best."""
    constraints: tuple[Constraint, ...] = ()
    """What the best trial must keep."""
    scheduler: Annotated[Scheduler, BeforeValidator(lambda x: {"name": x} if isinstance(x, str) else x)] = Scheduler()
    """`scheduler: asha` will do."""
    trials_at_once: Annotated[int, Field(ge=1)] | None = None
    """Trials side by side at most; none is as many as there is room for."""
    retries: Annotated[int, Field(ge=0)] = 1
    """Tries of a trial that fails, beyond the first; each goes on from the last round that is on disk."""

    @model_validator(mode="after")
    def _fits(self) -> "Sweep":
        ranges = [key for key, dimension in self.space.items() if not dimension.listed]
        if self.search == "grid" and ranges:
            raise ValueError(f"search: a grid needs lists, and {ranges[0]} is a range; list values, or search=random")
        if self.search != "grid" and self.samples is None:
            raise ValueError(f"samples: must be given for search={self.search}")
        if self.search == "grid" and self.samples is not None:
            raise ValueError("samples: a grid makes all combinations; leave it out, or set search=random")
        if self.search == "population" and (self.samples or 0) < 2:
            raise ValueError("samples: a population has two members or more; raise it")
        if self.search == "population" and self.scheduler.name != "none":
            raise ValueError("scheduler: a population replaces the weak by itself; leave it out, or set search=random")
        ordered(self.space)
        for key, dimension in self.space.items():
            for value in dimension.values:
                named(key, value)
        return self

    def unknown_figures(self) -> dict[str, frozenset[str]]:
        """Figures that no trial will have -> those that there are."""
        wanted = [*(x.figure for x in self.objectives), *(x.figure for x in self.constraints)]
        found = {figure: FINAL for figure in wanted if figure not in FINAL}
        first = self.objectives[0].figure
        if self.scheduler.name != "none" and first not in ON_THE_WAY:
            found.setdefault(first, ON_THE_WAY)
        if self.search == "population" and first not in OF_A_ROUND:
            found.setdefault(first, OF_A_ROUND)
        return found
