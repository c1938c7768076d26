"""A population over its rounds: what its members came to, and what their settings were."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fedtiny.track.figures import ACCENT, MUTED, styled
from tune.knobs import logarithmic
from tune.objective import Objective
from tune.population import Generation
from tune.space import Sample
from tune.wording import named, scaled

__all__ = ["History", "Stretch", "line_of"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rounds in which a member had the same settings.

    Attributes:
        member: Its name.
        start: Rounds made before.
        end: Rounds made at their end.
        sample: The settings.
        parent: Whose run it goes on from; empty if from its own, or from the start.
    """

    member: str
    start: int
    end: int
    sample: Sample
    parent: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """What a population went through.

    Attributes:
        first: Member -> the settings that it began with.
        generations: How it was bred, in order.
        progress: Member and figures after each evaluated round, in the order in which they came.
        rounds: Rounds in all.
    """

    first: Mapping[str, Sample]
    generations: Sequence[Generation]
    progress: Sequence[tuple[str, Mapping[str, float]]]
    rounds: int

    def stretches(self) -> list[Stretch]:
        """Of all members, those of each in the order of rounds."""
        found = []
        for name, sample in self.first.items():
            start, parent = 0, ""
            for generation in self.generations:
                for fork in generation.forks:
                    if fork.trial == name:
                        found.append(Stretch(name, start, generation.round, sample, parent))
                        start, sample, parent = generation.round, fork.sample, fork.parent
            found.append(Stretch(name, start, self.rounds, sample, parent))
        return found

    def figure(self, objective: Objective, best: str | None) -> go.Figure:
        """The objective over rounds, and each setting below; red is what led to the best member.

        Args:
            objective: What members are compared by.
            best: The best member; none is red without one.
        """
        stretches = self.stretches()
        told = [(key, value) for x in stretches for key, value in x.sample.items()]
        keys = list(dict.fromkeys(key for key, value in told if isinstance(value, int | float)))
        figure = make_subplots(rows=1 + len(keys), cols=1, shared_xaxes=True, vertical_spacing=0.25 / (1 + len(keys)))
        red = line_of(self, best) if best else []
        lines = [*((x, MUTED) for x in stretches), *((x, ACCENT) for x in red)]
        for x, colour in lines:
            _draw(figure, x, self._line(x, objective), 1, colour)
        for row, key in enumerate(keys, start=2):
            values = []
            for x, colour in lines:
                if isinstance(value := x.sample.get(key), int | float):
                    values.append(float(value))
                    _draw(figure, x, [(x.start, value), (x.end, value)], row, colour)
            scale = {"type": "log", "dtick": "D2"} if logarithmic(values) else {"type": "linear"}
            figure.update_yaxes(title=key, **scale, row=row, col=1)
        for generation in self.generations:
            figure.add_vline(generation.round, line={"color": MUTED, "width": 1, "dash": "dot"})
        figure.update_yaxes(title=named(objective.figure), row=1, col=1)
        figure.update_xaxes(title="rounds", row=1 + len(keys), col=1)
        return styled(figure, 320 + 220 * len(keys)).update_layout(showlegend=False)

    def _line(self, x: Stretch, objective: Objective) -> list[tuple[int, float]]:
        """Rounds and figure, from where it went on."""
        told = [
            (int(figures["rounds"]), scaled(objective.figure, figures[objective.figure]))
            for name, figures in self.progress
            if objective.figure in figures
            and (
                (name == x.member and x.start < figures["rounds"] <= x.end)
                or (name == (x.parent or x.member) and figures["rounds"] == x.start)
            )
        ]
        return sorted(dict(told).items())  # a round that was made again after a crash counts once


def line_of(history: History, member: str) -> list[Stretch]:
    """What led to a member at the end: its own last rounds, before them those of whom it went on from, and so on.

    Returns:
        In the order of rounds; they cover all of them.
    """
    found: list[Stretch] = []
    stretches, until = history.stretches(), history.rounds
    while until:
        own = next(x for x in stretches if x.member == member and x.start < until <= x.end)
        found.insert(0, replace(own, end=until))
        member, until = own.parent or member, own.start
    return found


def _draw(figure: go.Figure, x: Stretch, line: Sequence[tuple[int, float]], row: int, colour: str) -> None:
    told = f"{x.member}, from {x.parent} at {x.start}" if x.parent else x.member
    figure.add_scatter(
        x=[r for r, _ in line],
        y=[y for _, y in line],
        mode="lines",
        line={"color": colour, "width": 3 if colour == ACCENT else 1.5},
        hovertemplate=f"{told}<br>%{{x}} rounds: %{{y:.4g}}<extra></extra>",
        row=row,
        col=1,
    )
