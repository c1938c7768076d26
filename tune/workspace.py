"""The project's workspace in W&B: panels for what a sweep is about, over all of its runs.

W&B draws a workspace on its servers, so that saving one needs a login; building and reading it does not.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import wandb_workspaces.reports.v2.interface as panels
import wandb_workspaces.workspaces as views

from fedtiny.track.wandb import logged_in

__all__ = ["KNOBS", "asked", "outline", "save", "workspace"]

KNOBS = ("method.name", "method.density", "method.candidates", "method.adjust_every", "training.lr", "clients")
"""Settings of the parallel coordinates, unless others are named."""

_ACCURACY, _TEST = "validation_accuracy", "test_accuracy"
_ROUND = "round"


def workspace(project: str, entity: str, knobs: Sequence[str] = KNOBS) -> views.Workspace:
    """The view, not saved yet.

    Args:
        project: `tracking.project` of the runs.
        entity: A user or team of W&B.
        knobs: Dotted keys of the configuration, for the parallel coordinates.
    """
    return views.Workspace(
        entity=entity,
        project=project,
        name="FedTiny",
        sections=[_costs(), _settings(knobs), _masks(), _rounds()],
    )


def _costs() -> views.Section:
    return views.Section(
        name="What accuracy costs",
        panels=[
            _line("Accuracy over the rounds", _ROUND, _ACCURACY, _TEST),
            _line("Accuracy against bytes so far", "so_far/bytes", _ACCURACY, log_x=True),
            _line("Accuracy against FLOPs so far (modelled, rigl)", "so_far/flops_rigl", _ACCURACY, log_x=True),
            _points("Accuracy against bytes uploaded, whole runs", "upload_bytes"),
            _points("Accuracy against FLOPs of the costliest round (modelled, rigl)", "flops_per_round_max/rigl"),
            _points("Accuracy against client memory (modelled)", "memory_bytes_max"),
        ],
        is_open=True,
    )


def _settings(knobs: Sequence[str]) -> views.Section:
    column = panels.ParallelCoordinatesPlotColumn
    columns = [column(metric=panels.Config(key), display_name=key) for key in knobs]
    columns += [column(metric=panels.SummaryMetric(figure)) for figure in ("upload_bytes", _ACCURACY)]
    return views.Section(
        name="Settings",
        panels=[
            panels.ParallelCoordinatesPlot(title="Settings and what they came to", columns=columns),
            panels.ParameterImportancePlot(with_respect_to=_ACCURACY),
        ],
        is_open=True,
    )


def _masks() -> views.Section:
    return views.Section(
        name="Masks",
        panels=[
            panels.LinePlot(title="Density of each layer", x=_ROUND, metric_regex="layer_density/.*", log_y=True),
            panels.MediaBrowser(title="Density of each layer over the rounds", media_keys=["layer_densities"]),
            _line("Weights exchanged", _ROUND, "exchanged"),
            panels.WeavePanelSummaryTable(table_name="candidates"),
        ],
    )


def _rounds() -> views.Section:
    return views.Section(
        name="Rounds",
        panels=[
            _line("Training loss", _ROUND, "train_loss"),
            _line("Bytes a round", _ROUND, "upload_bytes", "download_bytes"),
            _line("Seconds a round", _ROUND, "seconds"),
            _line("Clients asked, and dropped", _ROUND, "clients", "dropped"),
        ],
    )


def _line(title: str, x: str, *ys: str, log_x: bool = False) -> panels.LinePlot:
    return panels.LinePlot(title=title, x=x, y=list(ys), log_x=log_x)


def _points(title: str, figure: str) -> panels.ScatterPlot:
    accuracy = panels.SummaryMetric(_ACCURACY)
    return panels.ScatterPlot(title=title, x=panels.SummaryMetric(figure), y=accuracy, log_x=True)


def asked(words: Sequence[str]) -> int:
    """`python -m tune workspace`, with its words; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tune workspace", description="Saves a view of a project in W&B.")
    parser.add_argument("project", metavar="PROJECT", help="tracking.project of the runs")
    parser.add_argument("--entity", help="user or team of W&B; by default that of whoever is logged in")
    parser.add_argument("--knobs", nargs="+", default=KNOBS, metavar="KEY", help="settings of the parallel coordinates")
    parser.add_argument("--dry-run", action="store_true", help="print what it shows, and save nothing")
    given = parser.parse_args(words)
    return save(given.project, given.entity, given.knobs, given.dry_run)


def outline(view: views.Workspace) -> Iterator[str]:
    """The view in lines: sections, and what their panels show."""
    for section in view.sections:
        yield section.name
        for panel in section.panels:
            told: dict[str, Any] = vars(panel)
            kind = type(panel).__name__
            yield f"  {kind}: {told.get('title') or told.get('with_respect_to') or told.get('table_name')}"


def save(project: str, entity: str | None, knobs: Sequence[str] = KNOBS, dry: bool = False) -> int:
    """Saves the view as a new one of the project, and prints its address; or prints it alone. The exit code.

    Args:
        project: `tracking.project` of the runs.
        entity: A user or team of W&B; none is the default of whoever is logged in.
        knobs: As in `workspace`.
        dry: Saves nothing.
    """
    if dry:
        print("\n".join(outline(workspace(project, entity or "you", knobs))))
        return 0
    if not logged_in():
        print(
            "workspace: nobody is logged in to W&B, which keeps workspaces on its servers; run wandb login, or look at "
            "the view with --dry-run",
            file=sys.stderr,
        )
        return 2
    try:
        import wandb

        view = workspace(project, entity or wandb.Api().default_entity or "", knobs)
        view.save()
        print(view.url)
    except Exception as error:  # Whatever the network and W&B's servers come up with.
        print(f"workspace: not saved ({type(error).__name__}: {' '.join(str(error).split())})", file=sys.stderr)
        return 1
    return 0
