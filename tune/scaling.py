"""What more clients do: to the accuracy, the time of a round, the bytes and the memory."""

from collections.abc import Callable, Sequence
from statistics import mean

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fedtiny.track.figures import ACCENT, INK, styled
from tune.fronts import told
from tune.objective import Objective
from tune.trial import Trial
from tune.wording import named, scaled

__all__ = ["CLIENTS", "against_clients"]

CLIENTS = "clients"
"""The knob."""

_MEMORY = ("driver_peak_bytes", "memory_bytes_max", "memory_bytes")


def against_clients(trials: Sequence[Trial], objective: Objective) -> go.Figure | None:
    """Four plots against the number of clients, on a logarithmic axis; None if it was not varied.

    Args:
        trials: Those with a result.
        objective: What is drawn as accuracy.
    """
    own = [trial for trial in trials if isinstance(trial.sample.get(CLIENTS), int)]
    counts = sorted({_clients(trial) for trial in own})
    if len(counts) < 2:
        return None
    memory = next((key for key in _MEMORY if all(key in trial.figures for trial in own)), _MEMORY[-1])
    plots: list[tuple[str, Callable[[Trial], float | None]]] = [
        (named(objective.figure), lambda t: scaled(objective.figure, t.figures[objective.figure])),
        (
            "wall-clock seconds a round, start included (measured)",
            lambda t: t.seconds / t.rounds if t.rounds and t.seconds else None,
        ),
        ("bytes up and down a round (measured)", _bytes_a_round),
        (named(memory), lambda t: t.figures.get(memory)),
    ]
    titles = [name for name, _ in plots]
    figure = make_subplots(rows=2, cols=2, subplot_titles=titles, vertical_spacing=0.2, horizontal_spacing=0.1)
    for i, (_, value) in enumerate(plots):
        where = {"row": i // 2 + 1, "col": i % 2 + 1}
        known = [(trial, y) for trial in own if (y := value(trial)) is not None]
        means = [(n, mean(ys)) for n in counts if (ys := [y for trial, y in known if _clients(trial) == n])]
        figure.add_scatter(
            x=[n for n, _ in means],
            y=[y for _, y in means],
            mode="lines",
            line={"color": INK, "width": 2},
            name="mean",
            showlegend=i == 0,
            **where,
        )
        figure.add_scatter(
            x=[_clients(trial) for trial, _ in known],
            y=[y for _, y in known],
            mode="markers",
            marker={"color": ACCENT, "size": 7, "opacity": 0.6},
            text=[told(trial) for trial, _ in known],
            hovertemplate="%{text}<br>%{y:.4s}<extra></extra>",
            name="a trial",
            showlegend=i == 0,
            **where,
        )
        figure.update_xaxes(title="clients", type="log", tickvals=counts, **where)
        figure.update_yaxes(type="linear" if i == 0 else "log", exponentformat="SI", **where)
    figure.update_annotations(font_size=13)
    return styled(figure, 680).update_layout(legend={"y": 1.06})


def _clients(trial: Trial) -> int:
    count = trial.sample[CLIENTS]
    assert isinstance(count, int)
    return count


def _bytes_a_round(trial: Trial) -> float | None:
    up, down = (trial.figures.get(key) for key in ("upload_bytes", "download_bytes"))
    if up is None or down is None or not trial.rounds:
        return None
    return (up + down) / trial.rounds
