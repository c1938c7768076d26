"""The report's figures, one function each."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fedtiny.table import Table
from fedtiny.track.record import RoundRecord, Start
from fedtiny.track.results import number, rigl_flops

__all__ = [
    "ACCENT",
    "INK",
    "MUTED",
    "candidates",
    "classes",
    "confusion",
    "costs",
    "curves",
    "densities",
    "field",
    "moves",
    "styled",
]

INK, ACCENT, MUTED = "#1f3a5f", "#d1495b", "#9aa5b1"


def styled(figure: go.Figure, height: int) -> go.Figure:
    """The figure in the look that all have; `height` in pixels."""
    return figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 30, "t": 50, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )


def _short(names: Sequence[str]) -> list[str]:
    return [name.removesuffix(".weight") for name in names]


def curves(records: Sequence[RoundRecord]) -> go.Figure:
    """Accuracy and loss a round; rounds that moved the mask are marked."""
    figure = make_subplots(rows=1, cols=2)
    rounds = [x.round + 1 for x in records if x.test_accuracy is not None]
    for name, color, dash in (("test", INK, "solid"), ("validation", MUTED, "dot")):
        for column, (what, scale) in enumerate((("accuracy", 100), ("loss", 1)), start=1):
            values = [getattr(x, f"{name}_{what}") for x in records if x.test_accuracy is not None]
            if any(value is None for value in values):
                continue
            scaled = [scale * value for value in values]
            line = {"color": color, "dash": dash}
            figure.add_scatter(x=rounds, y=scaled, name=name, line=line, row=1, col=column, showlegend=column == 1)
    losses = [x.train_loss for x in records]
    line = {"color": ACCENT, "dash": "dash"}
    everyone = [x.round + 1 for x in records]
    figure.add_scatter(x=everyone, y=losses, name="training (clients)", line=line, row=1, col=2)
    for x in records:
        if x.exchanged:
            figure.add_vline(x=x.round + 1, line={"color": ACCENT, "width": 1, "dash": "dot"}, opacity=0.5)
    figure.update_xaxes(title="round")
    figure.update_yaxes(title="accuracy, %", col=1)
    figure.update_yaxes(title="loss, nats", col=2)
    return styled(figure, 400)


def field(records: Sequence[RoundRecord], summary: Mapping[str, object]) -> go.Figure:
    """Accuracy against simulated time, and clients that were asked but not waited for, round by round."""
    spent = [(x.simulated_seconds or 0.0, x.joules or 0.0) for x in records]
    seconds = number(summary, "simulated_seconds") - sum(x for x, _ in spent)
    times = [seconds := seconds + x for x, _ in spent]
    figure = make_subplots(rows=1, cols=2)
    tested = [(t, 100 * x.test_accuracy) for t, x in zip(times, records, strict=True) if x.test_accuracy is not None]
    line = {"color": INK}
    figure.add_scatter(x=[t for t, _ in tested], y=[y for _, y in tested], name="test", line=line, row=1, col=1)
    rounds = [x.round + 1 for x in records]
    for name, color, counts in (
        ("taken", INK, [len(x.clients) - len(x.dropped) for x in records]),
        ("surplus", MUTED, [len(x.surplus) for x in records]),
        ("late", ACCENT, [len(x.late) for x in records]),
    ):
        figure.add_bar(x=rounds, y=counts, name=name, marker_color=color, row=1, col=2)
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title="simulated seconds", col=1)
    figure.update_xaxes(title="round", col=2)
    figure.update_yaxes(title="accuracy, %", col=1)
    figure.update_yaxes(title="clients asked", col=2)
    return styled(figure, 380)


def densities(records: Sequence[RoundRecord]) -> go.Figure:
    """Density of each layer over rounds, as a heat map on a logarithmic scale."""
    names = list(records[0].layer_densities)
    values = [[x.layer_densities[name] for x in records] for name in names]
    figure = go.Figure(
        go.Heatmap(
            x=[x.round + 1 for x in records],
            y=_short(names),
            z=[[math.log10(max(v, 1e-9)) for v in row] for row in values],
            customdata=[[100 * v for v in row] for row in values],
            hovertemplate="round %{x}<br>%{y}<br>%{customdata:.3f} % kept<extra></extra>",
            colorscale="Viridis",
            colorbar={"title": "kept", **_ticks([v for row in values for v in row])},
        )
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(title="round")
    return styled(figure, 160 + 30 * len(names))


def _ticks(values: Sequence[float]) -> dict[str, list[float] | list[str]]:
    low, high = math.log10(max(min(values), 1e-9)), math.log10(max(values))
    at = [low + (high - low) * i / 4 for i in range(5)] if high > low else [low]
    return {"tickvals": at, "ticktext": [f"{100 * 10**x:.2g} %" for x in at]}


def moves(records: Sequence[RoundRecord]) -> go.Figure:
    """Weights exchanged in each adjusting round, layer by layer."""
    figure = go.Figure()
    for name in records[0].layer_densities:
        rounds = [x.round + 1 for x in records if name in x.exchanged]
        counts = [x.exchanged[name] for x in records if name in x.exchanged]
        if rounds:
            width = [0.8] * len(rounds)
            figure.add_bar(x=rounds, y=counts, width=width, name=name.removesuffix(".weight"))
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title="round", range=[0.5, len(records) + 0.5])
    figure.update_yaxes(title="weights exchanged")
    return styled(figure, 340)


def candidates(table: Table) -> go.Figure:
    """Loss of each candidate; the chosen one is marked."""
    names = [str(row[0]) for row in table.rows]
    colors = [ACCENT if i == table.chosen else MUTED for i in range(len(names))]
    losses = [float(row[1]) for row in table.rows]
    marker = {"color": colors, "size": 14}
    figure = go.Figure(go.Scatter(x=names, y=losses, mode="markers", marker=marker))
    if table.chosen is not None:
        figure.add_annotation(x=names[table.chosen], y=losses[table.chosen], text="chosen", yshift=18, showarrow=False)
    figure.update_xaxes(title="candidate", type="category")
    figure.update_yaxes(title="federated loss, nats")
    return styled(figure, 340)


def classes(start: Start) -> go.Figure:
    """Training examples of each class, client by client."""
    figure = go.Figure()
    clients = [f"client {i}" for i in range(start.clients)]
    for c, name in enumerate(start.classes):
        figure.add_bar(y=clients, x=[row[c] for row in start.class_counts], name=name, orientation="h")
    figure.update_layout(barmode="stack", showlegend=len(start.classes) <= 20)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="training examples")
    return styled(figure, 140 + min(40 * start.clients, 1200))


def costs(summary: Mapping[str, object]) -> go.Figure:
    """Bytes, FLOPs and kept weights as shares of a dense run's."""
    dense = number(summary, "dense_upload_bytes")
    shares = {
        "uploaded bytes (measured)": number(summary, "upload_bytes") / dense,
        "downloaded bytes (measured)": number(summary, "download_bytes") / dense,
        "FLOPs a client and round (modelled, rigl)": rigl_flops(summary) / number(summary, "dense_flops_per_round_max"),
        "parameters kept": number(summary, "density_all"),
    }
    figure = go.Figure(
        go.Bar(
            y=list(shares),
            x=[100 * share for share in shares.values()],
            orientation="h",
            marker_color=INK,
            text=[f"{100 * share:.3g} %" for share in shares.values()],
            textposition="outside",
            cliponaxis=False,
        )
    )
    figure.add_vline(x=100, line={"color": ACCENT, "dash": "dot"}, annotation_text="dense")
    figure.update_xaxes(title="% of a dense run", range=[0, max(115, 120 * max(shares.values()))])
    figure.update_yaxes(autorange="reversed", automargin=True)
    return styled(figure, 300)


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> go.Figure:
    """How often each class was taken for each other."""
    figure = go.Figure(
        go.Heatmap(
            x=list(names),
            y=list(names),
            z=matrix,
            text=matrix if len(names) <= 20 else None,
            texttemplate="%{text}" if len(names) <= 20 else None,
            colorscale="Blues",
            showscale=False,
            hovertemplate="true %{y}, predicted %{x}: %{z}<extra></extra>",
        )
    )
    figure.update_xaxes(title="predicted", type="category")
    figure.update_yaxes(title="true", type="category", autorange="reversed", automargin=True)
    return styled(figure, 520)
