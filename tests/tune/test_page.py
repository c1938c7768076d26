"""The page of a sweep, as HTML and in a real browser."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_pages import BROWSER, check, rendered
from tests.tune.fabricated import ACCURACY, BYTES, CLIENTS, GRID, MIXED, trial
from tune.objective import Objective
from tune.page import page
from tune.tables import ranked
from tune.trial import Trial

FAILED = [Trial(f"f{i}", {"training.lr": 10.0**i}, "failed", "it <diverged>", 2) for i in range(3)]
LONE = [trial("only", 0.5, 100.0, training__lr=0.1)]


def test_everything_is_on_the_page_and_nothing_is_loaded() -> None:
    html = page(GRID, [ACCURACY, BYTES], "den<sity", {"t23": "trials/t23/report.html"})
    for title in (
        "The best trial: t23",
        "Pareto front",
        "Parallel coordinates",
        "Validation accuracy against each setting",
    ):
        assert f"<h2>{title}</h2>" in html
    for title in ("Importance of the settings", "Settings over their seeds", "All trials", "Failed, or stopped early"):
        assert f"<h2>{title}</h2>" in html
    assert "den&lt;sity" in html
    assert "27 trials: 24 finished, 1 stopped, 1 running, 1 failed." in html
    assert "<a href='trials/t23/report.html'>t23</a>" in html
    assert "ClientFailed: &lt;3 of 10&gt; answered" in html
    assert "<h2>More clients</h2>" not in html
    assert "<script src" not in html
    assert "<link" not in html


def test_best_comes_first_and_those_without_a_result_last() -> None:
    names = [x.name for x in ranked(GRID, [ACCURACY])]
    assert names[0] == "t23"  # 0.05, 10 candidates, seed 2: 0.5 + 0.2 + 0.02 + 0.02
    assert names[-3:] == ["t13", "t22", "t04"]  # stopped, running, failed
    assert ranked(GRID, [BYTES])[0].name == "t00"


def test_constraints_may_choose_another_best_trial() -> None:
    assert "<h2>The best trial: t05</h2>" in page(GRID, [ACCURACY], "x", {}, best="t05")


def test_seeds_are_averaged() -> None:
    html = page(GRID, [ACCURACY], "x", {})
    # 0.05 with 10 candidates: seeds 0 and 2 are finished, with 0.72 and 0.74.
    line = "<td>10</td><td>73.00 %</td><td>72.00 % to 74.00 %</td><td>2</td>"
    assert f"<tr><td>0.05</td>{line}</tr>" in html


def test_a_sweep_over_clients_has_its_plots() -> None:
    assert "<h2>More clients</h2>" in page(CLIENTS, [ACCURACY], "clients", {})


def test_one_figure_is_enough() -> None:
    html = page([replace(LONE[0], figures={"validation_accuracy": 0.5})], [ACCURACY], "x", {})
    assert "<h2>Parallel coordinates</h2>" in html
    assert "<h2>Pareto front</h2>" not in html
    assert "Nothing can be said: it takes 6 trials" in html


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize(
    ("trials", "objectives"),
    [
        (GRID, [ACCURACY]),
        (GRID, [ACCURACY, BYTES]),
        (CLIENTS + MIXED, [ACCURACY, BYTES, Objective(figure="seconds", direction="min")]),
        (LONE, [ACCURACY]),
    ],
    ids=["one objective", "two objectives", "clients and conditional settings", "a lone trial"],
)
def test_it_is_drawn_without_a_complaint(
    tmp_path: Path, trials: Sequence[Trial], objectives: Sequence[Objective]
) -> None:
    path = tmp_path / "sweep.html"
    path.write_text(page(trials, objectives, "sweep", {}), encoding="utf-8")
    check(path, tmp_path / "browser")


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize(
    ("trials", "says"),
    [([], "There is no trial yet."), (FAILED, "No trial has a result yet.")],
    ids=["none", "all failed"],
)
def test_without_a_result_it_says_so(tmp_path: Path, trials: Sequence[Trial], says: str) -> None:
    path = tmp_path / "sweep.html"
    path.write_text(page(trials, [ACCURACY], "sweep", {}), encoding="utf-8")
    drawn, console = rendered(path, tmp_path / "browser")
    body = re.sub(r"<script.*?</script>", "", drawn, flags=re.DOTALL)
    assert console == []
    assert says in body
    assert body.count("it &lt;diverged&gt;") == len(trials)
