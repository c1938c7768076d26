"""The tables of a comparison, before anybody decides how they are written."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedtiny.compare.results import Results
from fedtiny.compare.row import FIGURES
from fedtiny.compare.statistics import Interval, Paired
from fedtiny.track.results import human_bytes, human_flops, human_seconds

__all__ = [
    "Column",
    "Sheet",
    "accuracy_sheet",
    "brief_sheet",
    "cost_sheet",
    "csv_of",
    "failed_sheet",
    "paired_sheet",
    "percent",
]


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading.

    Attributes:
        over: What stands above it and its neighbours; empty for nothing.
        name: Its own.
    """

    over: str
    name: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of words, some of them bold.

    Attributes:
        title: What it shows.
        columns: Its headings.
        rows: Its cells.
        bold: (row, column) of the best.
        text: What a reader needs to know.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()
    text: str = ""


def percent(density: float | None) -> str:
    """A density as a heading."""
    return "" if density is None else f"{100 * density:.6g} %"


def accuracy_text(told: Interval | None, seeds: int) -> str:
    """Mean ± half of the 95 % interval in percent; the number of seeds, where some are missing."""
    if told is None:
        return "failed"
    half = "" if told.half is None else f" ± {100 * told.half:.1f}"
    return f"{100 * told.mean:.1f}{half}" + (f" (n={told.n})" if told.n < seeds else "")


def accuracy_sheet(results: Results, figure: str, title: str, text: str, costs: bool = True) -> Sheet:
    """Methods in rows, densities in columns: accuracy; if `costs`, uploaded bytes and FLOPs beside it."""
    columns = [Column("", "method")]
    for density in results.densities:
        columns.append(Column(percent(density), "accuracy, %"))
        if costs:
            columns += [Column(percent(density), "up, MB"), Column(percent(density), "FLOPs")]
    ranks, blocks = results.ranks(figure)
    if ranks:
        columns.append(Column("", "rank"))
    step = 3 if costs else 1
    rows, bold = [], set()
    for i, label in enumerate(results.grid.labels):
        cells = [label]
        for k, density in enumerate(results.densities):
            told = results.interval(label, density, figure)
            if told is None and results.of(label, density):
                cells.append("-")  # there is a run, but it has no such figure
            else:
                cells.append(accuracy_text(told, len(results.grid.seeds)))
            if label in results.best(density, figure):
                bold.add((i, 1 + step * k))
            if costs:
                cells += [_megabytes(results, label, density), _share(results, label, density)]
        if ranks:
            cells.append(f"{ranks[label]:.2f}" if label in ranks else "")
        rows.append(tuple(cells))
    if ranks:
        text += f" Rank: mean over {blocks} blocks of density and seed, 1 is best."
        fewest = min(ranks.values())
        for i, label in enumerate(results.grid.labels):
            if ranks.get(label) == fewest and len(ranks) > 1:
                bold.add((i, len(columns) - 1))
    return Sheet(title, tuple(columns), tuple(rows), frozenset(bold), text)


def _mean(results: Results, label: str, density: float | None, figure: str) -> float | None:
    told = results.interval(label, density, figure)
    return None if told is None else told.mean


def _megabytes(results: Results, label: str, density: float | None) -> str:
    up = _mean(results, label, density, "upload_bytes")
    return "" if up is None else f"{up / 1e6:.3g}"


def _share(results: Results, label: str, density: float | None) -> str:
    flops = _mean(results, label, density, "flops_round_max_rigl")
    # The largest is that of the network that the configuration names: a method may train a smaller one.
    told = [_mean(results, other, density, "dense_flops_round_max") for other in results.grid.labels]
    dense = max((x for x in told if x is not None), default=0.0)
    return "" if flops is None or not dense else f"{100 * flops / dense:.3g} %"


def brief_sheet(results: Results) -> Sheet:
    """What fits a terminal."""
    return accuracy_sheet(results, "test_accuracy", "Test accuracy, mean ± 95 % interval", "", costs=False)


_COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("up", "upload_bytes", human_bytes),
    ("down", "download_bytes", human_bytes),
    ("FLOPs a round, rigl", "flops_round_max_rigl", human_flops),
    ("FLOPs a round, fedrts", "flops_round_max_fedrts", human_flops),
    ("FLOPs in all, rigl", "flops_total_rigl", human_flops),
    ("FLOPs in all, fedrts", "flops_total_fedrts", human_flops),
    ("memory, modelled", "memory_bytes", human_bytes),
    ("memory, measured", "measured_bytes", human_bytes),
    ("peak, measured", "measured_peak_bytes", human_bytes),
    ("wall-clock", "seconds", human_seconds),
    ("simulated time", "simulated_seconds", human_seconds),
    ("energy", "joules", lambda x: f"{x:.3g} J"),
)


def cost_sheet(results: Results) -> Sheet:
    """What every method cost at every density, means over seeds; columns that nobody has are left out."""
    kept = [x for x in _COSTS if any(row.figures.get(x[1]) is not None for row in results.rows)]
    columns = [Column("", "density"), Column("", "method"), *(Column("", name) for name, _, _ in kept)]
    rows = []
    for label, density in _cases(results):
        cells = [percent(density), label]
        for _, figure, show in kept:
            told = _mean(results, label, density, figure)
            cells.append("-" if told is None else show(told))
        rows.append(tuple(cells))
    return Sheet(
        "Costs",
        tuple(columns),
        tuple(rows),
        text="Bytes are measured: the encoded messages of all clients, the whole run, selection included. FLOPs are "
        "modelled, of the busiest client of a round: its costliest round, and all rounds with the selection. Modelled "
        "memory is a client's beyond activations; measured memory is that of a training step on this machine's engine "
        "with a random mask of the density, beyond activations and at its peak. Wall-clock seconds were taken beside "
        "other runs, so they say little.",
    )


def _cases(results: Results) -> list[tuple[str, float | None]]:
    """Methods without a density once, then all others at each."""
    whole: list[tuple[str, float | None]] = [(label, None) for label in results.grid.references]
    return whole + [(label, density) for density in results.grid.densities for label in results.pruned]


def paired_sheet(results: Results, figure: str = "test_accuracy") -> Sheet:
    """Each method against the reference, over seeds, at each density and over all of them."""
    names = ("density", "method", "difference, points", "n", "p, paired t", "p, sign flips")
    rows = []
    others = [label for label in results.grid.labels if label != results.grid.reference]
    told_of: list[tuple[str, str, Paired | None]] = [
        (percent(density), label, results.against(label, density, figure))
        for density in results.densities
        for label in others
    ]
    if len(results.densities) > 1:
        told_of += [("mean of all", label, results.against_overall(label, figure)) for label in others]
    fewest = len(results.grid.seeds)
    for where, label, told in told_of:
        if told is None:
            rows.append((where, label, "-", "0", "-", "-"))
            continue
        fewest = min(fewest, told.difference.n)
        half = "" if told.difference.half is None else f" ± {100 * told.difference.half:.1f}"
        rows.append(
            (
                where,
                label,
                f"{100 * told.difference.mean:+.1f}{half}",
                f"{told.difference.n}",
                "-" if told.t_p is None else f"{told.t_p:.3f}",
                "-" if told.flip_p is None else f"{told.flip_p:.3f}",
            )
        )
    return Sheet(
        f"Against {results.grid.reference}",
        tuple(Column("", name) for name in names),
        tuple(rows),
        text=f"Test accuracy minus that of {results.grid.reference} with the same seed, in percentage points, with "
        f"its 95 % interval. The t test takes the differences for normal; the sign-flip test is exact and takes "
        f"nothing for granted, but with {fewest} seeds it cannot go below {min(1.0, 2.0 ** (1 - fewest)):.3g}: "
        f"with fewer than six it never reaches 0.05. No p value is corrected for the number of comparisons.",
    )


def failed_sheet(results: Results) -> Sheet:
    """Cells without a result, and why."""
    rows = [(row.label, percent(row.density), str(row.seed), row.failure) for row in results.failed]
    names = ("method", "density", "seed", "reason")
    return Sheet("Cells without a result", tuple(Column("", name) for name in names), tuple(rows))


def csv_of(results: Results) -> str:
    """One line a cell: what it is, whether it failed, and every figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "density", "seed", *_renamed(list(FIGURES)), "weights_sha256", "folder", "failure"])
    for row in results.rows:
        figures = [row.figures.get(key) for key in FIGURES]
        told = ["" if x is None else f"{x:.10g}" for x in figures]
        density = "" if row.density is None else f"{row.density:g}"
        writer.writerow(
            [row.label, density, row.seed, *told, row.summary.get("weights_sha256", ""), row.folder, row.failure]
        )
    return text.getvalue()


def _renamed(names: Sequence[str]) -> list[str]:
    """The density reached, apart from the one asked for."""
    return ["density_reached" if name == "density" else name for name in names]
