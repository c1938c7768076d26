"""The figures of a sweep's page."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fedtiny.track.figures import ACCENT, INK, MUTED, styled
from tune.knobs import logarithmic
from tune.objective import Objective, front
from tune.trial import Trial
from tune.wording import brief, named, scaled, words

__all__ = ["against_costs", "importances", "told"]

_COSTS = (
    ("bytes", "upload_bytes", "download_bytes"),
    ("flops", "flops_total_rigl", "flops_round_max_rigl", "flops_per_round_max/rigl"),
    ("memory_bytes", "memory_bytes_max"),
    ("seconds",),
    ("density_all", "density"),
)
"""Of each kind of cost one is drawn: an objective, or the first that is known."""


def told(trial: Trial) -> str:
    """A trial and its settings, for whoever points at it."""
    settings = "".join(f"<br>{key} {words(value)}" for key, value in trial.sample.items())
    return f"{trial.name}{settings}"


def _costs(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Objective]:
    """The other objectives, then other kinds of cost, as far as they are known and not the same for all."""
    aimed = [objective.figure for objective in objectives]
    varied = []
    for kind in _COSTS:
        known = [key for key in kind if all(key in trial.figures for trial in trials)]
        if not set(kind) & set(aimed) and known and len({trial.figures[known[0]] for trial in trials}) > 1:
            varied.append(known[0])
    return [*objectives[1:], *(Objective(figure=key, direction="min") for key in varied)]


def against_costs(trials: Sequence[Trial], objectives: Sequence[Objective]) -> go.Figure | None:
    """The first objective against the others and against costs; None if there is nothing to draw it against.

    Args:
        trials: Those with all objectives; those that were stopped early are drawn, and are on no front.
        objectives: One or more.
    """
    costs = _costs(trials, objectives)
    if not costs:
        return None
    done = [trial for trial in trials if trial.status == "finished"]
    early = [trial for trial in trials if trial.status != "finished"]
    best = {done[i].name for i in front([t.figures for t in done], objectives)} if len(objectives) > 1 else None
    rows = math.ceil(len(costs) / 2)
    figure = make_subplots(rows=rows, cols=2, vertical_spacing=0.3 / rows, horizontal_spacing=0.1)
    first = objectives[0]
    for i, cost in enumerate(costs):
        where = {"row": i // 2 + 1, "col": i % 2 + 1}
        edge = [done[k] for k in front([t.figures for t in done], [first, cost])]
        edge.sort(key=lambda t: t.figures[cost.figure])
        chosen = best if best is not None else {t.name for t in edge}
        shape = "hv" if cost.direction == "min" else "vh"
        line = {"color": MUTED, "dash": "dot", "shape": shape}
        _points(figure, edge, first, cost, where, "front of the two", i == 0, mode="lines", line=line, hoverinfo="skip")
        plain = [t for t in done if t.name not in chosen]
        _points(figure, early, first, cost, where, "stopped early", i == 0, symbol="circle-open", color=MUTED)
        _points(figure, plain, first, cost, where, "finished", i == 0, color=INK)
        name = "best trade-offs of all objectives" if best is not None else "on the front"
        _points(figure, [t for t in done if t.name in chosen], first, cost, where, name, i == 0, color=ACCENT, size=11)
        values = [t.figures[cost.figure] for t in trials]
        kind = "log" if logarithmic(values) else "linear"
        figure.update_xaxes(title=named(cost.figure), type=kind, exponentformat="SI", **where)
        figure.update_yaxes(title=named(first.figure), **where)
    return styled(figure, 360 * rows)


def _points(
    figure: go.Figure,
    trials: Sequence[Trial],
    first: Objective,
    cost: Objective,
    where: Mapping[str, int],
    name: str,
    show: bool,
    color: str = INK,
    symbol: str = "circle",
    size: int = 8,
    **more: object,
) -> None:
    settings: dict[str, object] = {
        "mode": "markers",
        "marker": {"color": color, "symbol": symbol, "size": size},
        "text": [told(t) for t in trials],
        "hovertemplate": "%{text}<br>%{x:.4s}<br>%{y:.4g}<extra></extra>",
    }
    if "mode" in more:
        settings = {}
    if trials:
        figure.add_scatter(
            x=[scaled(cost.figure, t.figures[cost.figure]) for t in trials],
            y=[scaled(first.figure, t.figures[first.figure]) for t in trials],
            name=name,
            legendgroup=name,
            showlegend=show,
            **settings,
            **more,
            **where,
        )


def importances(found: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Bars: objective -> setting -> share of the variance that it explains."""
    keys = list(dict.fromkeys(key for shares in found.values() for key in shares))
    figure = go.Figure()
    for (objective, shares), color in zip(found.items(), (INK, ACCENT, MUTED, "#2a9d8f", "#e9a23b") * 9, strict=False):
        figure.add_bar(
            y=keys,
            x=[100 * shares.get(key, 0.0) for key in keys],
            orientation="h",
            name=brief(objective),
            marker_color=color,
            hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
        )
    figure.update_layout(barmode="group")
    figure.update_xaxes(title="% of the variance explained", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return styled(figure, 160 + 34 * len(keys) * max(1, len(found)))
