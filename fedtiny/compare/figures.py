"""The figures of a comparison."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fedtiny.compare.results import Results
from fedtiny.compare.row import Row
from fedtiny.compare.tables import percent
from fedtiny.track.figures import MUTED, styled

__all__ = ["curves", "front", "layers", "pareto"]

_COLORS = (
    "#1f3a5f", "#d1495b", "#2a9d8f", "#e9a23b", "#7a4fa3", "#5c8001", "#0f87c9", "#b5651d",
    "#c2185b", "#607d8b", "#00695c", "#8d6e63", "#455a00", "#9e9e9e",
)  # fmt: skip
_MARKS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon", "hexagon", "triangle-down")

_AXES = (
    ("density of all parameters", "density_all"),
    ("bytes up and down (measured)", "bytes"),
    ("FLOPs in all (modelled, rigl)", "flops_total_rigl"),
    ("client memory with activations, bytes (modelled)", "memory"),
    ("wall-clock seconds (measured)", "seconds"),
    ("simulated seconds (modelled)", "simulated_seconds"),
)


def _color(results: Results, label: str) -> str:
    return _COLORS[results.grid.labels.index(label) % len(_COLORS)]


def _mark(results: Results, label: str) -> str:
    return _MARKS[results.grid.labels.index(label) % len(_MARKS)]


@dataclass(frozen=True, slots=True)
class _Point:
    label: str
    density: float | None
    cost: float
    accuracy: float
    half: float | None


def _cost(row: Row, key: str) -> float | None:
    parts = {"bytes": ("upload_bytes", "download_bytes"), "memory": ("memory_bytes", "activation_bytes")}
    told = [row.figures[part] for part in parts.get(key, (key,))]
    known = [x for x in told if x is not None]
    return sum(known) if len(known) == len(told) else None


def _points(results: Results, key: str) -> list[_Point]:
    found = []
    cases: list[tuple[str, float | None]] = [(label, None) for label in results.grid.references]
    cases += [(label, density) for label in results.pruned for density in results.grid.densities]
    for label, density in cases:
        costs = [x for row in results.of(label, density) if (x := _cost(row, key)) is not None]
        told = results.interval(label, density, "test_accuracy")
        if costs and told is not None and mean(costs) > 0:
            found.append(_Point(label, density, mean(costs), told.mean, told.half))
    return found


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, gain) points those that no other equals at less cost or beats at the same, cheapest first."""
    kept: list[tuple[float, float]] = []
    for cost, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or gain > kept[-1][1]:
            kept.append((cost, gain))
    return kept


def pareto(results: Results) -> go.Figure:
    """Accuracy against each cost, on logarithmic axes, with the Pareto front."""
    axes = [(title, points) for title, key in _AXES if (points := _points(results, key))]
    rows = max(1, math.ceil(len(axes) / 2))
    figure = make_subplots(rows=rows, cols=2, vertical_spacing=0.30 / rows, horizontal_spacing=0.1)
    for i, (title, points) in enumerate(axes):
        row, col = i // 2 + 1, i % 2 + 1
        best = front([(x.cost, 100 * x.accuracy) for x in points])
        figure.add_scatter(
            x=[x for x, _ in best],
            y=[y for _, y in best],
            mode="lines",
            line={"color": MUTED, "shape": "hv", "dash": "dot"},
            name="Pareto front",
            legendgroup="front",
            showlegend=i == 0,
            hoverinfo="skip",
            row=row,
            col=col,
        )
        for label in results.grid.labels:
            own = sorted((x for x in points if x.label == label), key=lambda x: x.cost)
            if own:
                figure.add_scatter(
                    x=[x.cost for x in own],
                    y=[100 * x.accuracy for x in own],
                    error_y={
                        "array": [100 * (x.half or 0.0) for x in own],
                        "thickness": 1,
                        "width": 3,
                        "visible": True,
                    },
                    text=[percent(x.density) or "whole" for x in own],
                    mode="lines+markers" if len(own) > 1 else "markers",
                    line={"color": _color(results, label), "width": 1},
                    marker={"color": _color(results, label), "symbol": _mark(results, label), "size": 9},
                    name=label,
                    legendgroup=label,
                    showlegend=i == 0,
                    hovertemplate=f"{label}, %{{text}}<br>%{{x:.4s}}<br>%{{y:.2f}} %<extra></extra>",
                    row=row,
                    col=col,
                )
        figure.update_xaxes(title=title, type="log", row=row, col=col, exponentformat="power")
        low, high = min(x.accuracy for x in points), max(x.accuracy for x in points)
        room = max(1.0, 8 * (high - low))
        figure.update_yaxes(
            title="test accuracy, %", row=row, col=col, range=[100 * low - room, min(101.0, 100 * high + room)]
        )
    return _under(styled(figure, 360 * rows), results)


def _under(figure: go.Figure, results: Results) -> go.Figure:
    """The figure with its legend above, and room for it."""
    lines = math.ceil((len(results.grid.labels) + 1) / 6)
    height = figure.layout.height
    margin = {"l": 60, "r": 30, "t": 50 + 22 * lines, "b": 60}
    return figure.update_layout(margin=margin, height=height + 22 * lines)


def curves(results: Results) -> go.Figure:
    """Accuracy against rounds (above) and against bytes (below), a column a density: mean, and from least to most."""
    count = len(results.densities)
    figure = make_subplots(
        rows=2,
        cols=count,
        subplot_titles=[percent(density) for density in results.densities],
        shared_yaxes=True,
        vertical_spacing=0.16,
        horizontal_spacing=0.03,
    )
    named: set[str] = set()
    for col, density in enumerate(results.densities, start=1):
        for label in results.grid.labels:
            told = _curve(results.of(label, density))
            if not told:
                continue
            for row, xs in ((1, [x.round for x in told]), (2, [x.bytes for x in told])):
                _band(figure, _color(results, label), label, xs, told, row, col, show=label not in named)
                named.add(label)
        figure.update_xaxes(title="round", row=1, col=col)
        figure.update_xaxes(title="bytes up and down", type="log", row=2, col=col, exponentformat="power")
    figure.update_yaxes(title="test accuracy, %", col=1)
    return _under(styled(figure, 720), results)


@dataclass(frozen=True, slots=True)
class _Moment:
    """All seeds after a round: accuracies in percent."""

    round: float
    bytes: float
    mean: float
    low: float
    high: float


def _curve(rows: Sequence[Row]) -> list[_Moment]:
    """The rounds that every seed evaluated."""
    runs = []
    for row in rows:
        sent = row.figures["selection_bytes"] or 0.0
        told: dict[int, tuple[float, float]] = {}
        for record in row.records:
            sent += record.upload_bytes + record.download_bytes
            if record.test_accuracy is not None:
                told[record.round + 1] = sent, 100 * record.test_accuracy
        runs.append(told)
    shared = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
    found = []
    for round in shared:
        values = [run[round][1] for run in runs]
        sent = mean(run[round][0] for run in runs)
        found.append(_Moment(round, sent, mean(values), min(values), max(values)))
    return found


def _band(
    figure: go.Figure,
    color: str,
    label: str,
    xs: Sequence[float],
    told: Sequence[_Moment],
    row: int,
    col: int,
    show: bool,
) -> None:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    figure.add_scatter(
        x=[*xs, *reversed(xs)],
        y=[*(x.high for x in told), *(x.low for x in reversed(told))],
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.15)",
        line={"width": 0, "color": color},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=label,
        row=row,
        col=col,
    )
    figure.add_scatter(
        x=xs,
        y=[x.mean for x in told],
        mode="lines",
        line={"color": color, "width": 2},
        name=label,
        legendgroup=label,
        showlegend=show,
        hovertemplate=f"{label}<br>%{{x:.4s}}<br>%{{y:.2f}} %<extra></extra>",
        row=row,
        col=col,
    )


def layers(results: Results) -> go.Figure | None:
    """Density of each layer at the end, methods side by side; None if nothing was pruned."""
    columns: dict[str, dict[str, float]] = {}
    for density in results.grid.densities:
        for label in results.pruned:
            told = _layer_means([row.records[-1].layer_densities for row in results.of(label, density)])
            if told:
                columns[f"{label}<br>{percent(density)}"] = told
    names = list(dict.fromkeys(name for told in columns.values() for name in told))
    values = [[told.get(name) for told in columns.values()] for name in names]
    known = [x for row in values for x in row if x is not None]
    if not known or min(known) == 1:
        return None
    logs = [[None if x is None else math.log10(max(x, 1e-6)) for x in row] for row in values]
    low, high = math.log10(max(min(known), 1e-6)), math.log10(max(known))
    at = [low + (high - low) * i / 4 for i in range(5)] if high > low else [low]
    shown = [["" if x is None else f"{100 * x:.3g}" for x in row] for row in values]
    figure = go.Figure(
        go.Heatmap(
            x=list(columns),
            y=[name.removesuffix(".weight") for name in names],
            z=logs,
            text=shown,
            texttemplate="%{text}" if len(columns) <= 16 else None,
            hovertemplate="%{x}<br>%{y}<br>%{text} % kept<extra></extra>",
            colorscale="Viridis",
            colorbar={"title": "kept", "tickvals": at, "ticktext": [f"{100 * 10**x:.2g} %" for x in at]},
        )
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(side="top", automargin=True, tickangle=0 if len(columns) <= 10 else -60)
    return styled(figure, 200 + 26 * len(names)).update_layout(margin={"l": 60, "r": 30, "t": 90, "b": 30})


def _layer_means(told: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean density of each layer over seeds."""
    return {name: mean(run[name] for run in told) for name in told[0]} if told else {}
