"""The tables of a sweep's page, and the order of its trials."""

from collections.abc import Mapping, Sequence, Set
from html import escape
from statistics import mean

from fedtiny.track.results import human_seconds
from tune.knobs import ABSENT, SEED, others
from tune.objective import Objective, front
from tune.trial import Status, Trial
from tune.wording import brief, shown, words

__all__ = ["ORDER", "all_trials", "over_seeds", "ranked", "troubles"]

ORDER: tuple[Status, ...] = ("finished", "stopped", "running", "waiting", "failed")
"""How trials follow each other."""

_BESIDE = ("test_accuracy", "validation_accuracy", "upload_bytes", "density")


def ranked(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Finished ones by the first objective, best first, then those stopped early likewise, then all others."""
    first = objectives[0]

    def place(trial: Trial) -> tuple[int, float]:
        value = trial.figures.get(first.figure)
        return ORDER.index(trial.status), float("inf") if value is None else -first.worth(value)

    return sorted(trials, key=place)


def over_seeds(finished: Sequence[Trial], objectives: Sequence[Objective], most: int = 12) -> str:
    """The best settings by their mean over seeds; empty if no two finished trials differ in their seeds alone.

    Args:
        finished: Finished trials with all objectives.
        objectives: One or more.
        most: Lines to show.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Trial]] = {}
    for trial in finished:
        groups.setdefault(others(trial.sample, SEED), []).append(trial)
    if all(len(group) < 2 for group in groups.values()):
        return ""
    first = objectives[0]
    order = sorted(groups.values(), key=lambda group: -first.worth(mean(t.figures[first.figure] for t in group)))
    keys = list(dict.fromkeys(key for trial in finished for key in trial.sample if key != SEED))
    lines = []
    for group in order[:most]:
        sample = group[0].sample
        cells = [words(sample[key]) if key in sample else ABSENT for key in keys]
        for objective in objectives:
            values = [t.figures[objective.figure] for t in group]
            least, largest = (shown(objective.figure, x) for x in (min(values), max(values)))
            cells += [shown(objective.figure, mean(values)), least if least == largest else f"{least} to {largest}"]
        lines.append([*cells, str(len(group))])
    heads = [*keys]
    for objective in objectives:
        heads += [brief(objective.figure), "from, to"]
    more = f" The first {most} of {len(order)}." if len(order) > most else ""
    return (
        f"<h2>Settings over their seeds</h2><p>Means of the finished trials that differ in the seed alone, best first."
        f"{more}</p>{_table([*heads, 'seeds'], lines)}"
    )


def all_trials(trials: Sequence[Trial], objectives: Sequence[Objective], links: Mapping[str, str]) -> str:
    """Every trial, best first, its name leading to its report; empty if there are none."""
    if not trials:
        return ""
    keys = list(dict.fromkeys(key for trial in trials for key in trial.sample))
    aims = [x.figure for x in objectives]
    figures = [*aims, *(x for x in _BESIDE if x not in aims and any(x in trial.figures for trial in trials))]
    finished = [x for x in trials if x.status == "finished" and all(aim in x.figures for aim in aims)]
    best = {finished[i].name for i in front([x.figures for x in finished], objectives)}
    lines = []
    for trial in ranked(trials, objectives):
        cells = [shown(x, trial.figures.get(x)) for x in figures]
        cells += [words(trial.sample[key]) if key in trial.sample else ABSENT for key in keys]
        cells += [str(trial.rounds), human_seconds(trial.seconds) if trial.seconds else ""]
        lines.append([trial.name, trial.status, *cells])
    heads = ["trial", "status", *map(brief, figures), *keys, "rounds made", "time"]
    return (
        "<h2>All trials</h2><p>Best first; bold: no other beats it in all objectives. The name leads to the run's own "
        f"report.</p>{_table(heads, lines, links, best)}"
    )


def troubles(trials: Sequence[Trial], links: Mapping[str, str]) -> str:
    """Those that failed, then those that were stopped early, each with its reason; empty if there are none."""
    told = [x for status in ("failed", "stopped") for x in trials if x.status == status]
    if not told:
        return ""
    lines = [[x.name, x.status, str(x.rounds), x.reason] for x in told]
    return f"<h2>Failed, or stopped early</h2>{_table(['trial', 'status', 'rounds made', 'why'], lines, links)}"


def _table(
    heads: Sequence[str],
    lines: Sequence[Sequence[str]],
    links: Mapping[str, str] | None = None,
    bold: Set[str] = frozenset(),
) -> str:
    rows = ""
    for line in lines:
        first, *rest = line
        link = (links or {}).get(first)
        name = f"<a href='{escape(link, quote=True)}'>{escape(first)}</a>" if link else escape(first)
        cells = "".join(f"<td class='{x}'>{x}</td>" if x in ORDER else f"<td>{escape(x)}</td>" for x in rest)
        rows += ("<tr class='front'>" if first in bold else "<tr>") + f"<td>{name}</td>{cells}</tr>"
    head = "".join(f"<th>{escape(x)}</th>" for x in heads)
    return f"<div class='wide'><table><tr>{head}</tr>{rows}</table></div>"
