"""Parallel coordinates, drawn as plain lines: plotly's own kind needs WebGL, which not every browser has."""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from fedtiny.track.figures import MUTED, styled
from tune.fronts import told
from tune.knobs import Axis, axis, knobs
from tune.objective import Objective
from tune.trial import Trial
from tune.wording import named, number, scaled

__all__ = ["parallel"]

_SHADES = 12
"""Colors of lines: as many traces, however many trials."""


def parallel(trials: Sequence[Trial], objectives: Sequence[Objective]) -> go.Figure:
    """A line a trial through its settings and its figures; the brighter, the better in the first objective."""
    axes = [*(axis(key, trials) for key in knobs(trials)), *(_figure(x.figure, trials) for x in objectives)]
    first = objectives[0]
    goods = [scaled(first.figure, t.figures[first.figure]) for t in trials]
    low, high = min(goods), max(goods)
    upside = [(x - low) / (high - low) if high > low else 1.0 for x in goods]
    shade = [round((_SHADES - 1) * (x if first.direction == "max" else 1 - x)) for x in upside]
    figure = go.Figure()
    for n in range(_SHADES):  # The best last, on top of the others.
        own = [i for i in range(len(trials)) if shade[i] == n]
        if not own:
            continue
        color = sample_colorscale("Viridis", [0.95 * n / (_SHADES - 1)])[0]
        figure.add_scatter(
            x=[x for _ in own for x in (*range(len(axes)), None)],
            y=[y for i in own for y in (*(_height(place, place.positions[i]) for place in axes), None)],
            text=[text for i in own for text in (*[told(trials[i])] * len(axes), "")],
            mode="lines+markers",
            line={"color": color, "width": 1.5},
            marker={"color": color, "size": 5},
            opacity=0.8,
            showlegend=False,
            hovertemplate="%{text}<extra></extra>",
        )
    for x, place in enumerate(axes):
        figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, line={"color": MUTED, "width": 1}, layer="below")
        for at, text in place.ticks:
            figure.add_annotation(
                x=x,
                y=_height(place, at),
                text=text,
                showarrow=False,
                xanchor="right",
                xshift=-6,
                bgcolor="rgba(255,255,255,0.75)",
                font={"size": 11},
            )
        figure.add_annotation(
            x=x, y=1.04, text=place.key, showarrow=False, yanchor="bottom", textangle=-12 if len(axes) > 4 else 0
        )
    figure.update_xaxes(visible=False, range=[-0.35, len(axes) - 0.75])
    figure.update_yaxes(visible=False, range=[-0.06, 1.3 if len(axes) > 4 else 1.15])
    return styled(figure, 480).update_layout(margin={"l": 40, "r": 40, "t": 20, "b": 20}, hovermode="closest")


def _figure(figure: str, trials: Sequence[Trial]) -> Axis:
    """The axis of a figure, as that of a setting."""
    values = [scaled(figure, t.figures[figure]) for t in trials]
    low, high = min(values), max(values)
    at = [low + (high - low) * i / 4 for i in range(5)] if high > low else [low]
    return Axis(named(figure).partition(" (")[0], tuple(values), tuple((x, number(x)) for x in at), True)


def _height(place: Axis, position: float) -> float:
    low, high = place.span
    return (position - low) / (high - low)
