"""What is asked of a sweep: presets with a `sweep:` section, and the run that its trials are variations of."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from pydantic import ValidationError

from fedtiny.config.load import ConfigError, gather, override, validate
from fedtiny.config.schema import TRAINING_CHANGES, RunConfig
from fedtiny.fleets import Inline
from fedtiny.prepare import Prepared, prepare
from fedtiny.seeds import stream
from tune.space import Sample, drawn, grid, parts, picked
from tune.sweep import Sweep

__all__ = ["Request", "cohorts", "configured", "listed", "requested"]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        sweep: The sweep.
        base: The run that its trials are variations of.
    """

    sweep: Sweep
    base: RunConfig

    def told(self) -> str:
        """As YAML that asks for it again."""
        asked = self.sweep.model_dump(mode="json", exclude_unset=True)
        asked["space"] = {
            key: {dimension.kind: list(dimension.values), **({"when": dict(dimension.when)} if dimension.when else {})}
            for key, dimension in self.sweep.space.items()
        }
        asked["constraints"] = [str(constraint) for constraint in self.sweep.constraints]
        return yaml.safe_dump({"sweep": asked, **self.base.model_dump(mode="json")}, sort_keys=False)


def requested(presets: Iterable[Path], overrides: Iterable[str] = ()) -> Request:
    """Reads presets and overrides, later winning; `sweep.KEY=VALUE` is for the sweep.

    Raises:
        ConfigError: Something is wrong with what is asked for; all of it at once.
    """
    source = gather(presets, overrides)
    tree = dict(source.tree)
    asked = tree.pop("sweep", None)
    problems: list[str] = []
    base: RunConfig | None = None
    sweep: Sweep | None = None
    try:
        base = validate(replace(source, tree=tree))
    except ConfigError as error:
        problems += error.problems
        base = error.rest
    if asked is None:
        problems.append("sweep: must be given: name a preset with a sweep: section, such as configs/sweep/density.yaml")
    else:
        try:
            sweep = Sweep.model_validate(asked)
        except ValidationError as error:
            problems += [_explained(x["loc"], x["type"], x["msg"], x["input"]) for x in error.errors()]
    if sweep is not None and base is not None:
        base = _of_a_sweep(base, any(key.split(".")[0] == "fleet" for key in source.origin))
        problems += _problems(sweep, base)
    if problems or sweep is None or base is None:
        raise ConfigError(dict.fromkeys(problems))
    return Request(sweep, base)


def listed(sweep: Sweep, base: RunConfig) -> list[Sample]:
    """The samples that are known beforehand: all of them but those that Optuna will think of."""
    if sweep.search == "grid":
        return grid(sweep.space, base)
    if sweep.search in ("random", "population"):
        rngs = [stream(sweep.seed, "sweep", i) for i in range(sweep.samples or 0)]
        return [drawn(sweep.space, base, lambda key, x, rng=rng: picked(rng, x)) for rng in rngs]  # type: ignore[misc]
    return []


def cohorts(sweep: Sweep, base: RunConfig) -> frozenset[int]:
    """Clients of a round, of all trials."""
    told: list[Sample] = []
    for sample in _examples(sweep, base):
        part = {key: value for key, value in sample.items() if key in ("clients", "cohort")}
        if part not in told:
            told.append(part)
    return frozenset(config.cohort or config.clients for config in (override(base, part) for part in told))


def _examples(sweep: Sweep, base: RunConfig) -> list[Sample]:
    """All samples if they are known beforehand; otherwise each value that is listed, and each end of a range, once.

    Those of a population are known only as far as they begin.
    """
    known = listed(sweep, base)
    if known and sweep.search != "population":
        return known
    return known + [
        drawn(sweep.space, base, lambda key, x, i=i: x.values[min(i, len(x.values) - 1)])  # type: ignore[misc]
        for i in range(max(len(x.values) for x in sweep.space.values()))
    ]


def configured(base: RunConfig, name: str, sample: Mapping[str, object]) -> RunConfig:
    """The configuration of a trial.

    Raises:
        ConfigError: The sample does not fit.
    """
    return override(base, {**sample, "name": f"{base.name}-{name}"})


def _of_a_sweep(base: RunConfig, with_fleet: bool) -> RunConfig:
    # A fleet that nobody named is none of a sweep's: its runs are many, so that each takes one process.
    fleet = base.fleet
    if not with_fleet:
        fleet = Inline()
    tracking = base.tracking
    if tracking.group is None:
        tracking = tracking.model_copy(update={"group": f"{base.name}-sweep"})
    return base.model_copy(update={"fleet": fleet, "tracking": tracking})


def _problems(sweep: Sweep, base: RunConfig) -> list[str]:
    """What is wrong with the samples, each thing once: of all that are known, or of each value by itself."""
    problems = [
        f"sweep.space.{key}: how trials are run and told of is the same for all of them; leave it out"
        for key in sweep.space
        if key.split(".")[0] in ("fleet", "name", "tracking")
    ]
    if sweep.search == "population":
        problems += _unchangeable(sweep, base)
    for figure, known in sweep.unknown_figures().items():
        problems.append(f"sweep: no trial has a figure {figure}; {_near(figure, known)}")
    if base.split.validation == 0:
        problems += [
            f"sweep.objectives: {x.figure} needs examples to validate on; set split.validation, or name test_accuracy"
            for x in sweep.objectives
            if x.figure.startswith("validation_")
        ]
    like: Prepared | None = None
    wrong: dict[str, Sample] = {}
    for sample in _examples(sweep, base):
        try:
            config = configured(base, "check", sample)
            dense = config.engine.model_copy(update={"name": "dense"})
            like = prepare(config.model_copy(update={"engine": dense}), like=like)
        except ConfigError as error:
            for problem in error.problems:
                wrong.setdefault(problem, sample)
    for problem, sample in wrong.items():
        where = next((key for key in sample if problem.startswith(f"{key}:")), "")
        problems.append(f"sweep.space.{problem}" if where else f"{problem} (with {_told(sample)})")
    return problems


def _unchangeable(sweep: Sweep, base: RunConfig) -> list[str]:
    """What keeps settings from changing on the way."""
    known = sorted([f"method.{x}" for x in base.method.changes()] + [f"training.{x}" for x in TRAINING_CHANGES])
    problems = [
        f"sweep.space.{key}: cannot change on the way, as a population's settings do; what can is {', '.join(known)}"
        for key in sweep.space
        if not set(parts(key)) <= set(known)
    ]
    if base.from_round:
        problems.append("from_round: is what a population finds; leave it out, or set it to null")
    every = sweep.population.every
    if every >= base.rounds:
        problems.append(f"sweep.population.every: must be below rounds ({base.rounds}), got {every}")
    if every % base.evaluate_every:
        problems.append(
            f"sweep.population.every: must be a multiple of evaluate_every ({base.evaluate_every}), got {every}"
        )
    return problems


def _told(sample: Sample) -> str:
    return ", ".join(f"{key}={value}" for key, value in sample.items())


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, sorted(known), 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"


def _explained(place: tuple[str | int, ...], kind: str, message: str, given: object) -> str:
    key = ".".join(map(str, ("sweep", *place)))
    if kind == "extra_forbidden":
        return f"{key}: there is no such key; {_near(str(place[-1]), Sweep.model_fields)}"
    if kind == "missing":
        return f"{key}: must be given"
    message = message.removeprefix("Value error, ")
    shown = "" if isinstance(given, Mapping) else f", got {given!r}"
    return f"{key}: {message[0].lower()}{message[1:]}{shown}"
