"""What a sweep came to: its best trial, and the files beside its runs."""

import csv
import io
from collections.abc import Sequence

from fedtiny.disk import write_whole
from tune.folder import Folder
from tune.lineage import History
from tune.objective import Objective
from tune.page import page
from tune.sweep import Sweep
from tune.trial import Trial

__all__ = ["best", "came_to", "table", "write"]

_OWN = ("rounds", "seconds")


def best(trials: Sequence[Trial], sweep: Sweep) -> Trial | None:
    """The finished trial that is best in the first objective, then in the next, of those that keep the constraints."""
    able = [
        trial
        for trial in trials
        if trial.status == "finished"
        and all(constraint.holds(trial.figures) for constraint in sweep.constraints)
        and all(objective.figure in trial.figures for objective in sweep.objectives)
    ]

    def rank(trial: Trial) -> tuple[float, ...]:
        return tuple(x.worth(trial.figures[x.figure]) for x in sweep.objectives)

    return max(able, key=rank, default=None)


def came_to(trial: Trial, objectives: Sequence[Objective], digits: int = 4) -> str:
    """The figures that are looked for, as far as the trial has them, in a line."""
    return ", ".join(
        f"{x.figure} {trial.figures[x.figure]:.{digits}g}" for x in objectives if x.figure in trial.figures
    )


def table(trials: Sequence[Trial]) -> str:
    """`trials.csv`: a line a trial, with its knobs and its figures.

    `rounds` are those that it made; a knob of that name is called `rounds_asked`.
    """
    knobs = list(dict.fromkeys(key for trial in trials for key in trial.sample))
    figures = list(dict.fromkeys(key for trial in trials for key in trial.figures if key not in (*_OWN, *knobs)))
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    heads = [f"{key}_asked" if key in _OWN else key for key in knobs]
    lines.writerow(["trial", "status", *heads, "rounds", "seconds", *figures, "reason"])
    for trial in trials:
        own = [trial.sample.get(key, "") for key in knobs]
        told = [trial.figures.get(key, "") for key in figures]
        lines.writerow([trial.name, trial.status, *own, trial.rounds, f"{trial.seconds:.1f}", *told, trial.reason])
    return text.getvalue()


def write(folder: Folder, sweep: Sweep, title: str) -> Trial | None:
    """Writes trials.csv, sweep.html, and best.yaml if there is a best trial; returns that."""
    trials = folder.trials()
    reports = {trial.name: folder.trial(trial.name) / "report.html" for trial in trials}
    links = {name: str(path.relative_to(folder.path)) for name, path in reports.items() if path.is_file()}
    found, place = best(trials, sweep), folder.path / "best.yaml"
    first = found.name if found else None
    history = None
    if sweep.search == "population":
        made = max((trial.rounds for trial in trials), default=0)
        ends = [(trial.name, trial.figures) for trial in trials if trial.status == "finished"]
        history = History(folder.first_samples(), folder.generations(), [*folder.progress(), *ends], made)
    write_whole(folder.path / "sweep.html", page(trials, sweep.objectives, title, links, first, history))
    write_whole(folder.path / "trials.csv", table(trials))
    if found is None:
        place.unlink(missing_ok=True)
        return None
    told = came_to(found, sweep.objectives, 6)
    settings = (folder.trial(found.name) / "config.yaml").read_text(encoding="utf-8")
    write_whole(
        place, f"# The best trial, {found.name}: {told}. Make it again with: python -m fedtiny run {place}\n{settings}"
    )
    return found
