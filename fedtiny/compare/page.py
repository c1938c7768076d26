"""The page of a comparison: one file, loads nothing."""

from collections.abc import Sequence
from html import escape

from plotly.offline import get_plotlyjs

from fedtiny.compare import figures
from fedtiny.compare.protocol import Finding
from fedtiny.compare.results import Results
from fedtiny.compare.row import LAST
from fedtiny.compare.tables import Sheet, accuracy_sheet, cost_sheet, failed_sheet, paired_sheet, percent
from fedtiny.compare.written import html_of, markdown_of, tex_of
from fedtiny.track.page import STYLE, section

__all__ = ["markdown", "page", "tex", "verdict"]

_STYLE = """
.wide { overflow-x: auto; } td, th { white-space: nowrap; font-variant-numeric: tabular-nums; }
.same { color: #2a7d4f; } .own { color: #8a5a00; } .differs, .failed { color: #b3261e; font-weight: 600; }
"""


def _sheets(results: Results) -> list[Sheet]:
    n = len(results.grid.seeds)
    return [
        accuracy_sheet(
            results,
            "test_accuracy",
            "Test accuracy",
            f"After the last round, in percent: mean of {n} seed{'s' * (n > 1)}"
            f"{' ± 95 % interval (t distribution)' * (n > 1)}. Up: bytes that all clients uploaded, measured. "
            f"FLOPs: the busiest client's costliest round, modelled (rigl), against that of a dense network. Bold: the "
            f"best at a density, of the methods that prune.",
        ),
        accuracy_sheet(
            results,
            "validation_accuracy_last5",
            "Validation accuracy",
            f"Mean of the last {LAST} evaluated rounds, in percent. Choose settings by it, never by the test.",
            costs=False,
        ),
        accuracy_sheet(
            results,
            "test_accuracy_last5",
            f"Test accuracy, last {LAST} evaluated rounds",
            "Their mean, in percent: steadier than the last round alone.",
            costs=False,
        ),
        paired_sheet(results),
        cost_sheet(results),
    ]


def page(results: Results, found: Sequence[Finding], command: str) -> str:
    """The whole page.

    Args:
        results: What the cells came to.
        found: Whether they had the same conditions.
        command: What makes the same comparison.
    """
    name = escape(results.grid.name)
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>{name}: FedTiny comparison</title><style>{STYLE}{_STYLE}</style>",
        f"<script>{get_plotlyjs()}</script>",
        f"<h1>{name}: {len(results.grid.labels)} methods compared</h1>",
        f"<p class='quiet'>{escape(_story(results))}</p>",
    ]
    if results.failed:
        sheet = failed_sheet(results)
        parts.append(f"<h2 class='failed'>{escape(sheet.title)}</h2>{html_of(sheet)}")
    parts.append(_protocol(found))
    accuracy, *others = _sheets(results)
    parts.append(_sheet(accuracy))
    if len(results.failed) < len(results.rows):
        parts.append(
            section(
                "What accuracy costs",
                "Each point is a method at a density, mean over seeds with its 95 % interval; densities of a method "
                "are joined. Dotted: the Pareto front, what nothing beats at the same cost. Axes of costs are "
                "logarithmic.",
                figures.pareto(results),
            )
        )
        parts.append(
            section(
                "On the way",
                "Test accuracy against rounds and against bytes that crossed the network until then, with the "
                "selection. Lines are means over seeds, bands go from the least seed to the best.",
                figures.curves(results),
            )
        )
        heat = figures.layers(results)
        if heat is not None:
            parts.append(
                section(
                    "Density of each layer",
                    "What is kept of each layer at the end, in percent, mean over seeds; rows are layers from input to "
                    "output.",
                    heat,
                )
            )
    parts += [_sheet(sheet) for sheet in others]
    parts += [
        _cells(results),
        "<h2>Make it again</h2><p>Tables of this page lie beside it as <code>comparison.md</code> and "
        "<code>comparison.tex</code>, all figures as <code>comparison.csv</code>.</p>",
        f"<pre>{escape(command)}</pre></html>",
    ]
    return "\n".join(parts)


def _story(results: Results) -> str:
    grid, n = results.grid, len(results.rows)
    at = f" at {len(grid.densities)} densities" if grid.densities else ""
    seeds = ", ".join(map(str, grid.seeds))
    done = n - len(results.failed)
    return f"{len(grid.labels)} methods{at}, seeds {seeds}: {done} of {n} runs have a result."


def _sheet(sheet: Sheet) -> str:
    return f"<h2>{escape(sheet.title)}</h2><p>{escape(sheet.text)}</p>{html_of(sheet)}"


def _protocol(found: Sequence[Finding]) -> str:
    lines = "".join(
        f"<tr><td>{escape(x.what)}</td><td class='{x.kind}'>{_KINDS[x.kind]}</td><td>{escape(x.text)}</td></tr>"
        for x in found
    )
    return (
        f"<h2>One protocol?</h2><p>{escape(verdict(found))} Read from the runs' own records: fingerprints of data, "
        f"partition and weights, the clients of each round, the settings.</p>"
        f"<div class='wide'><table>{lines}</table></div>"
    )


_KINDS = {"same": "the same", "own": "explained", "differs": "DIFFERS"}


def verdict(found: Sequence[Finding]) -> str:
    """The findings in a sentence."""
    if not found:
        return "There is no result yet."
    odd = [x.what for x in found if x.kind == "differs"]
    if odd:
        return f"These runs must not be compared as they are: they differ in {'; '.join(odd)}."
    if any(x.kind == "own" for x in found):
        return "All runs had the same conditions, but for what their methods or densities bring with them, named below."
    return "All runs had the same conditions."


def _cells(results: Results) -> str:
    lines = ""
    for row in results.rows:
        folder = escape(row.folder, quote=True)
        accuracy = row.figures.get("test_accuracy")
        told = escape(row.failure) if accuracy is None else f"{100 * accuracy:.2f} %"
        link = escape(row.label) if row.failure else f"<a href='{folder}/report.html'>{escape(row.label)}</a>"
        lines += f"<tr><td>{link}</td><td>{percent(row.density)}</td><td>{row.seed}</td><td>{told}</td></tr>"
    return (
        "<h2>All runs</h2><p>Each is a plain run with a report of its own.</p>"
        f"<table><tr><th>method</th><th>density</th><th>seed</th><th>test accuracy</th></tr>{lines}</table>"
    )


def markdown(results: Results, found: Sequence[Finding], command: str) -> str:
    """All tables as Markdown."""
    sheets = _sheets(results)
    if results.failed:
        sheets.insert(0, failed_sheet(results))
    parts = [f"# {results.grid.name}\n", f"{_story(results)}\n", f"```\n{command}\n```\n", f"{verdict(found)}\n"]
    parts.append("".join(f"- {x.what}: {_KINDS[x.kind]}, {x.text}\n" for x in found))
    for sheet in sheets:
        parts += [f"## {sheet.title}\n", *([f"{sheet.text}\n"] if sheet.text else []), markdown_of(sheet)]
    return "\n".join(parts)


def tex(results: Results) -> str:
    """All tables for LaTeX; they need the package booktabs."""
    missing = [f"% without a result: {x.folder}: {x.failure}\n" for x in results.failed]
    return "% \\usepackage{booktabs}\n" + "".join(missing) + "\n".join(tex_of(sheet) for sheet in _sheets(results))
