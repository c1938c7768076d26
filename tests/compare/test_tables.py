"""Tables of a fabricated comparison, by hand."""

import csv
import io
from dataclasses import replace

from fedtiny.compare.page import markdown, page, tex
from fedtiny.compare.protocol import findings
from fedtiny.compare.results import Results
from fedtiny.compare.row import FIGURES, with_dense_memory
from fedtiny.compare.tables import accuracy_sheet, csv_of, failed_sheet, paired_sheet
from fedtiny.compare.written import html_of, markdown_of, tex_of
from tests.compare.fabricated import GRID, RESULTS, row

SHEET = accuracy_sheet(RESULTS, "test_accuracy", "Test accuracy", "Mean & interval.")


def test_markdown_by_hand() -> None:
    assert markdown_of(SHEET) == (
        "| method | 5 % accuracy, % | 5 % up, MB | 5 % FLOPs | 0.5 % accuracy, % | 0.5 % up, MB | 0.5 % FLOPs "
        "| rank |\n"
        "|---|---|---|---|---|---|---|---|\n"
        "| ours | **91.0 ± 12.7** | 5 | 5 % | 70.0 ± 0.0 | 0.5 | 0.5 % | **1.33** |\n"
        "| theirs_&_co | 82.5 ± 31.8 | 5 | 5 % | **72.0 (n=1)** | 0.5 | 0.5 % | 1.67 |\n"
        "| whole | 98.0 ± 0.0 | 100 | 100 % | 98.0 ± 0.0 | 100 | 100 % |  |\n"
    )


def test_tex_by_hand() -> None:
    assert tex_of(SHEET) == "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            r"\begin{tabular}{lrrrrrrr}",
            r"\toprule",
            r" & \multicolumn{3}{c}{5 \%} & \multicolumn{3}{c}{0.5 \%} &  \\",
            r"\cmidrule(lr){2-4}\cmidrule(lr){5-7}",
            r"method & accuracy, \% & up, MB & FLOPs & accuracy, \% & up, MB & FLOPs & rank \\",
            r"\midrule",
            r"ours & \textbf{91.0 $\pm$ 12.7} & 5 & 5 \% & 70.0 $\pm$ 0.0 & 0.5 & 0.5 \% & \textbf{1.33} \\",
            r"theirs\_\&\_co & 82.5 $\pm$ 31.8 & 5 & 5 \% & \textbf{72.0 (n=1)} & 0.5 & 0.5 \% & 1.67 \\",
            r"whole & 98.0 $\pm$ 0.0 & 100 & 100 \% & 98.0 $\pm$ 0.0 & 100 & 100 \% &  \\",
            r"\bottomrule",
            r"\end{tabular}",
            r"\caption{Test accuracy. Mean \& interval. Rank: mean over 3 blocks of density and seed, 1 is best.}",
            r"\end{table}",
            "",
        ]
    )


def test_csv_has_a_line_a_cell_failed_ones_too() -> None:
    lines = list(csv.DictReader(io.StringIO(csv_of(RESULTS))))
    assert len(lines) == 10
    assert list(lines[0])[:4] == ["method", "density", "seed", "test_accuracy"]
    assert lines[0]["upload_bytes"] == "5000000"
    assert lines[0]["weights_sha256"] == "00000000"
    assert (lines[7]["test_accuracy"], lines[7]["failure"]) == ("", "ClientFailed: it diverged")
    assert (lines[8]["density"], lines[8]["density_reached"]) == ("", "1")
    assert len(lines[0]) == len(FIGURES) + 6


def test_the_paired_table_says_how_few_seeds_limit_it() -> None:
    """theirs - ours at 5 %: -0.10 and -0.07, mean -0.085, s = 0.0212132, half = 12.7062 * 0.015 = 0.190593."""
    sheet = paired_sheet(RESULTS)
    rows = {row[:2]: row[2:] for row in sheet.rows}
    difference, n, t_p, flip_p = rows["5 %", "theirs_&_co"]
    assert (difference, n, flip_p) == ("-8.5 ± 19.1", "2", "0.500")
    # t = 0.085 / 0.015 = 5.6667 with one degree of freedom: p = 2 / pi * atan(1 / t) = 0.1112.
    assert t_p == "0.111"
    assert rows["0.5 %", "theirs_&_co"] == ("+2.0", "1", "-", "1.000")
    # Over both densities only seed 0 has all: (-0.10 + 0.02) / 2.
    assert rows["mean of all", "theirs_&_co"] == ("-4.0", "1", "-", "1.000")
    assert rows["5 %", "whole"][0] == "+7.0 ± 12.7"
    assert "with 1 seeds it cannot go below 1" in sheet.text


def test_failed_cells_are_listed_everywhere() -> None:
    assert failed_sheet(RESULTS).rows == (("theirs_&_co", "0.5 %", "1", "ClientFailed: it diverged"),)
    found = findings(RESULTS.rows)
    assert "| theirs_&_co | 0.5 % | 1 | ClientFailed: it diverged |" in markdown(RESULTS, found, "go")
    assert "% without a result: cells/theirs_&_co-0.005-1: ClientFailed: it diverged" in tex(RESULTS)
    assert "<td>ClientFailed: it diverged</td>" in page(RESULTS, found, "go")


def test_html_is_escaped() -> None:
    assert "<td>theirs_&amp;_co</td><td>82.5 ± 31.8</td>" in html_of(SHEET)
    assert "<td><b>91.0 ± 12.7</b></td>" in html_of(SHEET)


def test_a_comparison_of_nothing_but_failures_still_has_its_page() -> None:
    nothing = Results(GRID, [row(x.label, x.density, x.seed, 0.0, failure="gone") for x in RESULTS.rows])
    text = page(nothing, findings(nothing.rows), "go")
    assert "0 of 10 runs have a result" in text
    assert "failed" in markdown(nothing, [], "go")


def test_a_dense_runs_measured_memory_is_what_a_pruned_run_measured_beside_it() -> None:
    pruned, whole = RESULTS.rows[0], RESULTS.rows[8]
    engine = {"name": "sparse", "sparse_bytes": 10, "sparse_peak_bytes": 20, "dense_bytes": 30, "dense_peak_bytes": 40}
    measured = replace(pruned, summary={**pruned.summary, "engine": engine})
    _, told = with_dense_memory([measured, whole])
    assert (told.figures["measured_bytes"], told.figures["measured_peak_bytes"]) == (30.0, 40.0)
    other = replace(whole, settings={**whole.settings, "training": {"batch": 32}})
    assert with_dense_memory([measured, other])[1].figures["measured_bytes"] is None
