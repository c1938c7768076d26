"""What each setting does to an objective."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fedtiny.track.figures import ACCENT, INK, styled
from tune.fronts import told
from tune.knobs import SEED, knobs, logarithmic, numeric
from tune.objective import Objective
from tune.trial import Trial
from tune.wording import named, scaled, words

__all__ = ["against_knobs"]


def against_knobs(trials: Sequence[Trial], objective: Objective) -> go.Figure | None:
    """The objective against each setting: every trial, their mean at each value, and a band over seeds."""
    keys = [key for key in knobs(trials) if sum(key in t.sample for t in trials) > 1]
    if not keys:
        return None
    rows = math.ceil(len(keys) / 2)
    figure = make_subplots(rows=rows, cols=2, vertical_spacing=0.3 / rows, horizontal_spacing=0.1, shared_yaxes=True)
    for i, key in enumerate(keys):
        where = {"row": i // 2 + 1, "col": i % 2 + 1}
        own = [t for t in trials if key in t.sample]
        _against(figure, own, key, objective, where, show=i == 0)
        figure.update_yaxes(title=named(objective.figure) if i % 2 == 0 else None, showticklabels=True, **where)
    return styled(figure, 340 * rows)


def _against(
    figure: go.Figure, own: Sequence[Trial], key: str, objective: Objective, where: Mapping[str, int], show: bool
) -> None:
    raw = [t.sample[key] for t in own]
    ordered = numeric(raw)
    xs: list[float | str] = [float(x) if ordered and isinstance(x, int | float) else words(x) for x in raw]
    ys = [scaled(objective.figure, t.figures[objective.figure]) for t in own]
    places = sorted(dict.fromkeys(xs), key=lambda x: (0.0, x) if isinstance(x, str) else (x, ""))
    repeated = len(places) < len(xs)
    if repeated:
        seeds = {x: _by_seed(x, xs, ys, [words(t.sample.get(SEED)) for t in own]) for x in places}
        means = [mean(seeds[x]) for x in places]
        if any(len(values) > 1 for values in seeds.values()):
            figure.add_scatter(
                x=[*places, *reversed(places)],
                y=[*(max(seeds[x]) for x in places), *(min(seeds[x]) for x in reversed(places))],
                fill="toself",
                fillcolor="rgba(31,58,95,0.15)",
                line={"width": 0, "color": INK},
                mode="lines",
                hoverinfo="skip",
                name="from the least seed to the best",
                legendgroup="band",
                showlegend=show,
                **where,
            )
        line = {"color": INK, "width": 2}
        figure.add_scatter(
            x=places, y=means, mode="lines", line=line, name="mean", legendgroup="mean", showlegend=show, **where
        )
    figure.add_scatter(
        x=xs,
        y=ys,
        mode="markers",
        marker={"color": ACCENT, "size": 7, "opacity": 0.6},
        text=[told(t) for t in own],
        hovertemplate="%{text}<br>%{y:.4g}<extra></extra>",
        name="a trial",
        legendgroup="trial",
        showlegend=show,
        **where,
    )
    kind = "category" if not ordered else "log" if logarithmic([float(x) for x in xs]) else "linear"
    ticks = {"tickvals": places} if ordered and len(places) <= 6 else {"exponentformat": "SI"}
    figure.update_xaxes(title=key, type=kind, **ticks, **where)


def _by_seed(place: float | str, xs: Sequence[float | str], ys: Sequence[float], seeds: Sequence[str]) -> list[float]:
    """The mean of each seed at a place, over all other settings."""
    found: dict[str, list[float]] = {}
    for x, y, seed in zip(xs, ys, seeds, strict=True):
        if x == place:
            found.setdefault(seed, []).append(y)
    return [mean(values) for values in found.values()]
