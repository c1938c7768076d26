"""The cells of a comparison: one run each, checked before any of them starts."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fedtiny.compare.request import Request, Variant, kinds
from fedtiny.config.load import ConfigError, override, validate
from fedtiny.config.schema import RunConfig
from fedtiny.fleets import Inline
from fedtiny.prepare import prepare
from fedtiny.sparse.engine.choose import Engine, choose
from fedtiny.sparse.engine.kernels import EngineUnavailable

__all__ = ["Cell", "Grid", "checked", "with_engines"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a comparison.

    Attributes:
        label: Its method's.
        density: The density it is compared at; None where the method has none.
        seed: Its seed.
        config: Its configuration.
    """

    label: str
    density: float | None
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """What its folder is called."""
        return self.named(self.label, self.density, self.seed)

    @staticmethod
    def named(label: str, density: float | None, seed: int) -> str:
        """The name of a cell's folder, a run's name too."""
        slug = re.sub(r"[^\w.-]+", "_", label).strip("_")
        return "-".join([slug, *([] if density is None else [f"{density:g}"]), str(seed)])


@dataclass(frozen=True, slots=True)
class Grid:
    """A comparison as it is to be shown.

    Attributes:
        name: What it is called.
        labels: Its methods, in their order.
        references: Those of them that have no density: they are the same at each.
        densities: Its densities, in their order.
        seeds: Its seeds.
        reference: The method that the others are tested against.
    """

    name: str
    labels: tuple[str, ...]
    references: tuple[str, ...]
    densities: tuple[float, ...]
    seeds: tuple[int, ...]
    reference: str

    @property
    def places(self) -> tuple[tuple[str, float | None, int], ...]:
        """Label, density and seed of each cell."""
        return tuple(
            (label, density, seed)
            for density in (*self.densities, None)
            for seed in self.seeds
            for label in self.labels
            if (density is None) == (label in self.references)
        )


def checked(request: Request, tell: Callable[[str], None]) -> tuple[Grid, list[Cell]]:
    """The grid and its cells, each of which can start; `tell` is told what a user should know of them.

    Raises:
        ConfigError: Something is wrong with a cell; what is wrong with any, all at once.
    """
    problems: list[str] = []
    try:
        base = validate(request.source)
    except ConfigError as error:
        problems += error.problems
        if error.rest is None:
            raise
        base = error.rest
    # A fleet that nobody named is none of a comparison's: its runs are many, so that each takes one process.
    if not any(key == "fleet" or key.startswith("fleet.") for key in request.source.origin):
        base = base.model_copy(update={"fleet": Inline()})
    if base.tracking.group is None:
        base = base.model_copy(update={"tracking": base.tracking.model_copy(update={"group": base.name})})
    references = tuple(x.label for x in request.variants if "density" not in kinds()[x.name].model_fields)
    grid = Grid(
        base.name,
        tuple(x.label for x in request.variants),
        references,
        request.densities,
        request.seeds,
        request.reference,
    )
    _tell_strangers(request, base, tell)
    variants = {variant.label: variant for variant in request.variants}
    wrong: dict[str, list[str]] = {}
    notes: dict[str, list[str]] = {}
    cells = []
    for label, density, seed in grid.places:
        where = label if density is None else f"{label} at {density:g}"
        first = seed == grid.seeds[0]
        try:
            cell = Cell(label, density, seed, _configured(base, request, variants[label], density, seed))
            if first:
                _prepared(cell.config, where, notes)
        except ConfigError as error:
            if first:
                for problem in error.problems:
                    wrong.setdefault(problem, []).append(where)
            continue
        cells.append(cell)
    everywhere = sum(seed == grid.seeds[0] for _, _, seed in grid.places)
    for problem, cases in wrong.items():
        problems.append(problem if len(cases) == everywhere else f"{problem} ({', '.join(cases)})")
    for name in {cell.name for cell in cells if sum(x.name == cell.name for x in cells) > 1}:
        problems.append(f"methods: the labels must differ in letters or digits: two of them make {name}")
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    for note, cases in notes.items():
        tell(f"{note} ({', '.join(cases)})")
    return grid, cells


def _tell_strangers(request: Request, base: RunConfig, tell: Callable[[str], None]) -> None:
    for key in request.shared:
        without = [x.label for x in request.variants if key.split(".")[0] not in kinds()[x.name].model_fields]
        if without:
            tell(f"note: method.{key} is no setting of {', '.join(without)}: they run without it")
    for key in sorted({key for change in base.from_round.values() for key in change.method}):
        if without := [x.label for x in request.variants if key not in kinds()[x.name].changes()]:
            tell(f"note: from_round changes method.{key}, which {', '.join(without)} cannot: they run without that")


def _configured(base: RunConfig, request: Request, variant: Variant, density: float | None, seed: int) -> RunConfig:
    kind = kinds()[variant.name]
    shared = {key: value for key, value in request.shared.items() if key.split(".")[0] in kind.model_fields}
    settings = shared | dict(variant.settings) | ({} if density is None else {"density": density})
    settings = kind.scheduled(request.schedule, settings) | settings
    dotted = {f"method.{key}": value for key, value in settings.items()}
    name = Cell.named(variant.label, density, seed)
    return override(base.shared_with(kind), {"name": name, "seed": seed, "method.name": variant.name, **dotted})


def _prepared(config: RunConfig, where: str, notes: dict[str, list[str]]) -> None:
    prepare(
        _dense(config),
        lambda text: notes.setdefault(text, []).append(where),
    )


def with_engines(cells: Sequence[Cell], known: Mapping[str, Engine], tell: Callable[[str], None]) -> list[Cell]:
    """The cells with the engine of each chosen: measured once for each network and density, before any run starts.

    Runs that measured for themselves would do it on a machine busy with others, and seeds might compute differently.

    Args:
        cells: The cells.
        known: What was chosen before, by the cell's name.
        tell: Is told of a measurement that begins.

    Raises:
        ConfigError: `engine: sparse` was asked for, and cannot be had.
    """
    chosen: dict[tuple[object, ...], Engine] = {}
    by_case: dict[tuple[str, float | None], Engine] = {}
    for cell in cells:
        if cell.name in known:
            by_case[cell.label, cell.density] = known[cell.name]
    ready = []
    for cell in cells:
        case = cell.label, cell.density
        if case not in by_case:
            by_case[case] = _chosen(cell.config, chosen, tell)
        ready.append(replace(cell, config=cell.config.model_copy(update={"engine": by_case[case]})))
    return ready


def _chosen(config: RunConfig, chosen: dict[tuple[object, ...], Engine], tell: Callable[[str], None]) -> Engine:
    if config.engine.name == "dense":
        return config.engine
    prepared = prepare(_dense(config))
    target = config.method.target
    key = prepared.model.model_dump_json(), config.training.batch, target, config.engine.model_dump_json()
    if key not in chosen:
        try:
            chosen[key] = choose(
                config.engine, prepared.network, config.training.batch, target, tell, config.fleet.gpus
            ).engine
        except EngineUnavailable as error:
            raise ConfigError([f"engine: {error}; or set engine=dense"]) from None
    return chosen[key]


def _dense(config: RunConfig) -> RunConfig:
    """With kernels that need no measuring."""
    return config.model_copy(update={"engine": config.engine.model_copy(update={"name": "dense"})})
