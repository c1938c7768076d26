"""One self-contained page a run: what happened, and what it cost."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import yaml
from plotly.offline import get_plotlyjs

from fedtiny.table import Table
from fedtiny.track import figures
from fedtiny.track.page import STYLE, html_table, section
from fedtiny.track.record import RoundRecord, Start
from fedtiny.track.results import engine_table, human_bytes, number, result_table, rigl_flops, whose
from fedtiny.track.times import time_table

__all__ = ["write_report"]


def write_report(
    path: Path,
    settings: Mapping[str, object],
    start: Start,
    tables: Sequence[Table],
    records: Sequence[RoundRecord],
    summary: Mapping[str, object],
    confusion: Sequence[Sequence[int]],
) -> None:
    """Writes the page; it loads nothing from anywhere.

    Args:
        path: The HTML file.
        settings: The whole configuration.
        start: What was known before the first round.
        tables: What the method found; a table whose second column is a loss is drawn.
        records: One record a round.
        summary: The figures of `summary.json`.
        confusion: Row is the true class, column the predicted one.
    """
    sections = [
        section(
            "Accuracy and loss",
            "At each evaluation the averaged model is tested on pictures that no client has seen. Dotted vertical "
            "lines are rounds in which the mask moved. The training loss is what clients see on their own data "
            "while they train; the test decides nothing.",
            figures.curves(records),
        )
    ]
    if summary["simulated_seconds"] is not None:
        sections.append(
            section(
                "Accuracy against simulated time",
                "What the rounds would have taken on the devices that the configuration describes: modelled seconds of "
                "download, computing and upload of the slowest client that was waited for, and modelled energy of all "
                "that were asked. FLOPs are those of a device that skips pruned weights at no loss of speed.",
                figures.field(records, summary),
            )
        )
    for table in tables:
        sections.append(
            section(
                table.title,
                table.text,
                figures.candidates(table),
            )
        )
    if start.prunable:
        moved = any(x.exchanged for x in records)
        sections.append(
            section(
                "Density of each layer",
                "Rows are layers from input to output, columns are rounds; the lighter, the more of the layer is "
                "kept. The exchange of weights within a layer keeps its density: it shows in the next picture."
                if moved
                else "Rows are layers from input to output, columns are rounds; the lighter, the more of the layer "
                "is kept. The mask did not move in this run.",
                figures.densities(records),
            )
        )
        if moved:
            sections.append(
                section(
                    "The mask moves, block by block",
                    "In each adjusting round one block of layers drops its smallest weights and grows as many where "
                    "the clients' averaged gradients were largest, fewer each time as the schedule cools down.",
                    figures.moves(records),
                )
            )
    sections += [
        section(
            "Who holds what",
            "Every client has its own mixture of classes, and keeps its pictures to itself.",
            figures.classes(start),
        ),
        section(
            "Costs against a dense run",
            "Bytes are the lengths of the encoded messages, all clients and rounds together, selection included. "
            "FLOPs are modelled, not measured: multiply-adds that a device would make which skips pruned weights. "
            "The dense run trains the same network without pruning.",
            figures.costs(summary),
        ),
        section(
            "Confusion matrix",
            "What the final model says of the test pictures.",
            figures.confusion(confusion, start.classes),
        ),
    ]
    page = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>{escape(str(summary['name']))}: FedTiny report</title><style>{STYLE}</style>",
        f"<script>{get_plotlyjs()}</script>",
        f"<h1>{escape(str(summary['name']))}</h1>",
        f"<p class='quiet'>{_story(start, records, summary)}</p>",
        _tiles(summary),
        *sections,
        _engine(summary),
        "<h2>Where the time goes</h2><p>Measured, in this run: seconds of the driver, and of all places where clients "
        "run together; each adds up to the whole.</p>",
        html_table(time_table(summary)),
        "<h2>All figures</h2>",
        html_table(result_table(summary)),
        "<h2>Configuration</h2><p>Saved as <code>config.yaml</code>: "
        "<code>python -m fedtiny run config.yaml</code> makes the same run again, to the bit on the same machine.</p>",
        f"<pre>{escape(yaml.safe_dump(dict(settings), sort_keys=False))}</pre></html>",
    ]
    path.write_text("\n".join(page), encoding="utf-8")


def _story(start: Start, records: Sequence[RoundRecord], summary: Mapping[str, object]) -> str:
    moved = sum(1 for x in records if x.exchanged)
    adjusted = f" In {moved} of them the mask was adjusted." if moved else ""
    return escape(
        f"{start.clients} clients trained a network of {start.parameters:,} parameters together for {len(records)} "
        f"rounds without sharing their pictures: method {summary['method']}, seed {summary['seed']}.{adjusted} "
        f"Only {100 * number(summary, 'density'):.3g} % of its {start.prunable:,} prunable weights are kept; "
        f"the rest are exactly 0 and were neither trained nor sent."
        if number(summary, "density") < 1
        else f"{start.clients} clients trained a network of {start.parameters:,} parameters together for "
        f"{len(records)} rounds without sharing their pictures. Nothing was pruned: this is what it costs whole."
        if start.parameters == number(summary, "reference_parameters")
        else f"{start.clients} clients trained a network of {start.parameters:,} parameters together for "
        f"{len(records)} rounds without sharing their pictures, in place of one of "
        f"{number(summary, 'reference_parameters'):,.0f}: method {summary['method']}, seed {summary['seed']}. "
        f"Nothing of it was pruned."
    )


def _tiles(summary: Mapping[str, object]) -> str:
    dense = number(summary, "dense_upload_bytes")
    tiles = (
        (f"{100 * number(summary, 'test_accuracy'):.2f} %", f"test accuracy {whose(summary)}".strip()),
        (f"{100 * number(summary, 'density'):.3g} %", "of the prunable weights kept"),
        (
            human_bytes(number(summary, "upload_bytes")),
            f"uploaded in all, {100 * number(summary, 'upload_bytes') / dense:.3g} % of dense (measured)",
        ),
        (
            f"{100 * rigl_flops(summary) / number(summary, 'dense_flops_per_round_max'):.3g} %",
            "of dense training FLOPs (modelled, rigl)",
        ),
        (human_bytes(number(summary, "memory_bytes_max")), "client memory beyond activations (modelled)"),
    )
    boxes = "".join(f"<div class='tile'><b>{escape(big)}</b>{escape(small)}</div>" for big, small in tiles)
    return f"<div class='tiles'>{boxes}</div>"


def _engine(summary: Mapping[str, object]) -> str:
    told, table = summary["engine"], engine_table(summary)
    assert isinstance(told, Mapping)
    layers = ", ".join(str(name).removesuffix(".weight") for name in told["sparse_layers"]) or "none"
    measured = (
        "Measured on this machine before the run, with one thread and a random mask of the target density; medians of "
        "steps made in turns. "
        if table
        else ""
    )
    return (
        f"<h2>Time and memory of a step</h2><p>{measured}Engine: {escape(str(told['reason']))}.</p>"
        + (html_table(table) if table else "")
        + f"<p class='quiet'>Layers that run sparse: {escape(layers)}.</p>"
    )
