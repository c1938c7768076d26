"""Folders of Rays whose process is gone, and of those whose process lives: real processes, no Ray."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fedtiny.fleets.scratch import Scratch, clear_dead

HOLDER = "from fedtiny.fleets.scratch import Scratch; held = Scratch(); print(held.path, flush=True); input()"


def test_what_a_killed_process_left_is_cleared_away_and_nothing_else(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("TMPDIR", str(scratch))
    mine, strange = Scratch(), scratch / "fedtiny-notes"
    strange.mkdir()
    other = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    theirs = Path(other.stdout.readline().strip())
    agents = [
        subprocess.Popen(["bash", "-c", f"exec -a {name} sleep 60 > {theirs}/{name}.log"])
        for name in ("ray::DashboardAgent", "editor")
    ]
    try:
        while len(list(theirs.glob("*.log"))) < 2:
            pass
        clear_dead()
        assert set(scratch.iterdir()) == {mine.path, strange, theirs}
        other.kill()
        other.communicate()
        clear_dead()
        assert set(scratch.iterdir()) == {mine.path, strange}
        assert agents[0].wait(timeout=10) == -9
        assert agents[1].poll() is None
    finally:
        other.kill()
        for agent in agents:
            agent.kill()
            agent.wait()
    mine.close()
    assert list(scratch.iterdir()) == [strange]
