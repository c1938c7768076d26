"""Pages in a real browser: every figure is drawn, and nothing is complained of."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fedtiny.compare.page import page
from fedtiny.compare.protocol import findings
from tests.compare.fabricated import RESULTS
from tests.track.test_report import RECORDS, TABLE, write

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")


def rendered(path: Path, scratch: Path) -> tuple[str, list[str]]:
    """The page once its scripts have run, and what they wrote to the console."""
    assert BROWSER is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    logging = ["--enable-logging=stderr", f"--user-data-dir={scratch}"]
    done = subprocess.run(
        [BROWSER, *options, *logging, "--virtual-time-budget=10000", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, re.findall(r"CONSOLE[:(]\d+\)?\] (.*)", done.stderr)


def check(path: Path, scratch: Path) -> None:
    figures = path.read_text(encoding="utf-8").count('class="plotly-graph-div"')
    drawn, console = rendered(path, scratch)
    body = re.sub(r"<script.*?</script>", "", drawn, flags=re.DOTALL)
    assert console == []
    assert figures > 0
    assert body.count(' svg-container"') == figures
    assert "NaN" not in body  # nor is any mark at a place that is none


def test_a_report_is_drawn_without_a_complaint(tmp_path: Path) -> None:
    write(tmp_path / "report.html", [TABLE], RECORDS)
    check(tmp_path / "report.html", tmp_path / "browser")


def test_a_comparison_is_drawn_without_a_complaint(tmp_path: Path) -> None:
    path = tmp_path / "comparison.html"
    path.write_text(page(RESULTS, findings(RESULTS.rows), "go"), encoding="utf-8")
    check(path, tmp_path / "browser")


def test_a_complaint_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "broken.html"
    path.write_text("<html><body><script>nope()</script></body></html>", encoding="utf-8")
    _, console = rendered(path, tmp_path / "browser")
    assert len(console) == 1
    assert "nope is not defined" in console[0]
