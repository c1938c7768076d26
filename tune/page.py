"""The page of a sweep: one file, loads nothing."""

from collections.abc import Mapping, Sequence
from html import escape

from plotly.offline import get_plotlyjs

from fedtiny.track.page import STYLE, section
from fedtiny.track.results import human_seconds
from tune.effects import against_knobs
from tune.fronts import against_costs, importances
from tune.importance import LEAST, importance
from tune.knobs import ABSENT, SEED
from tune.lineage import History
from tune.objective import Objective
from tune.parallel import parallel
from tune.scaling import against_clients
from tune.tables import ORDER, all_trials, over_seeds, ranked, troubles
from tune.trial import Trial
from tune.wording import brief, shown, words

__all__ = ["page"]

_STYLE = """
.wide { overflow-x: auto; } td, th { white-space: nowrap; font-variant-numeric: tabular-nums; }
.failed { color: #b3261e; } .front td:first-child { font-weight: 700; }
"""


def page(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    title: str,
    links: Mapping[str, str],
    best: str | None = None,
    history: History | None = None,
) -> str:
    """The whole page.

    Args:
        trials: All of them, whatever became of them.
        objectives: One or more; the first is what trials are ordered by.
        title: The sweep's name.
        links: Trial's name -> its report, seen from the page; where there is one.
        best: The trial to put first, if constraints have a say in it; otherwise that of the best first objective.
        history: What a population went through; None of trials whose settings stay what they are.
    """
    told = _told(trials, objectives)
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>{escape(title)}: FedTiny sweep</title><style>{STYLE}{_STYLE}</style>",
        f"<script>{get_plotlyjs()}</script>" if told or history else "",
        f"<h1>{escape(title)}</h1>",
        f"<p class='quiet'>{escape(_story(trials, objectives))}</p>",
        _tiles(trials, told, objectives, best),
        *(_figures(told, objectives) if history is None else [_population(history, objectives[0], best)]),
        over_seeds([x for x in told if x.status == "finished"], objectives) if history is None else "",
        all_trials(trials, objectives, links),
        troubles(trials, links),
        "</html>",
    ]
    return "\n".join(parts)


def _told(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Those that came to something in all objectives."""
    return [
        trial
        for trial in trials
        if trial.status in ("finished", "stopped", "running") and all(x.figure in trial.figures for x in objectives)
    ]


def _story(trials: Sequence[Trial], objectives: Sequence[Objective]) -> str:
    counts = {status: sum(trial.status == status for trial in trials) for status in ORDER}
    became = ", ".join(f"{n} {status}" for status, n in counts.items() if n) or "none yet"
    ways = {"max": "up", "min": "down"}
    aims = ", ".join(f"{x.figure} {ways[x.direction]}" for x in objectives)
    return f"{len(trials)} trials: {became}. Wanted: {aims}."


def _tiles(trials: Sequence[Trial], told: Sequence[Trial], objectives: Sequence[Objective], chosen: str | None) -> str:
    if not told:
        return "<p>No trial has a result yet.</p>" if trials else "<p>There is no trial yet.</p>"
    best = next((trial for trial in told if trial.name == chosen), ranked(told, objectives)[0])
    tiles = [(shown(x.figure, best.figures[x.figure]), brief(x.figure)) for x in objectives]
    tiles += [(words(value), key) for key, value in best.sample.items()]
    tiles.append((human_seconds(sum(trial.seconds for trial in trials)), "all trials together"))
    boxes = "".join(f"<div class='tile'><b>{escape(big)}</b>{escape(small)}</div>" for big, small in tiles)
    return f"<h2>The best trial: {escape(best.name)}</h2><div class='tiles'>{boxes}</div>"


def _population(history: History, objective: Objective, best: str | None) -> str:
    return section(
        "From whom the best member comes",
        "A line is a member. At each dotted line the weakest go on from the strongest, with other settings. Red: the "
        "best member, and before that whom it went on from: these settings over these rounds are its schedule, which "
        "best.yaml has. Elsewhere on this page a member's settings are its last.",
        history.figure(objective, best),
    )


def _figures(told: Sequence[Trial], objectives: Sequence[Objective]) -> list[str]:
    if not told:
        return []
    parts = []
    costs = against_costs(told, objectives)
    if costs is not None:
        red = "what no other finished trial beats in all objectives at once" if len(objectives) > 1 else "those on it"
        parts.append(
            section(
                "Pareto front",
                "Each point is a trial. Dotted: the front of the two figures that a plot shows, which no finished "
                f"trial beats in both. Red: {red}. Trials that were stopped early, or go on, are hollow: they have "
                "spent less, and are on no front.",
                costs,
            )
        )
    clients = against_clients(told, objectives[0])
    if clients is not None:
        parts.append(
            section(
                "More clients",
                "Against the number of clients, on a logarithmic axis: what it comes to, what a round takes here and "
                "sends (the selection spread over the rounds), and memory. Points are trials, lines their means.",
                clients,
            )
        )
    parts.append(
        section(
            "Parallel coordinates",
            "A line is a trial: its settings, then what it came to; the brighter, the better. Point at one for all of "
            f"its settings; one that it has not is at {ABSENT}.",
            parallel(told, objectives),
        )
    )
    finished = [trial for trial in told if trial.status == "finished"]
    # Those that were stopped early would have come to more.
    compared, whose = (finished, "finished") if len(finished) >= LEAST else (told, "all")
    effects = against_knobs(compared, objectives[0])
    if effects is not None:
        parts.append(
            section(
                f"{brief(objectives[0].figure).capitalize()} against each setting",
                f"Points are {whose} trials, whatever their other settings. Where values repeat, the line is the mean "
                "of those there, and the band goes from the least seed to the best, each the mean over the other "
                "settings.",
                effects,
            )
        )
    found = {x.figure: shares for x in objectives if (shares := importance(compared, x.figure))}
    if found:
        seeds = any(SEED in shares for shares in found.values())
        parts.append(
            section(
                "Importance of the settings",
                f"Share of the variance over {whose} trials that each setting explains by itself: functional ANOVA on "
                "a random forest (Hutter et al., 2014; Optuna's). A hint, not a proof: it knows only where trials were "
                "made." + (" The seed's share is what chance explains." if seeds else ""),
                importances(found),
            )
        )
    else:
        parts.append(
            f"<h2>Importance of the settings</h2><p>Nothing can be said: it takes {LEAST} trials with a result, and "
            "settings that vary.</p>"
        )
    return parts
