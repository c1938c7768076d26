"""Whole comparisons on a real Ray: the smoke preset, in seconds."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from ray import cloudpickle

from fedtiny.__main__ import main
from fedtiny.compare.cells import make
from tests.conftest import SMOKE

cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.ray
ROOT = SMOKE.parent.parent
GRID = ["methods=fedtiny,static,dense", "density=0.1,0.05", "seeds=2", "rounds=3", "cohort=2", "engine=dense"]


def summary(folder: Path) -> dict[str, object]:
    told: dict[str, object] = json.loads((folder / "summary.json").read_text())
    return told


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "comparison.csv").read_text().splitlines()))


def test_a_grid_from_words_to_page_and_its_runs_share_all_they_should(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["compare", str(SMOKE), *GRID, f"out={out}"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "10/10" in printed.out
    assert "All runs had the same conditions." in printed.out
    cells = sorted(path.name for path in (out / "cells").iterdir())
    assert len(cells) == 10
    assert "static-0.05-1" in cells
    assert "dense-1" in cells
    for suffix in ("html", "csv", "md", "tex"):
        assert (out / f"comparison.{suffix}").stat().st_size > 1000
        assert f"comparison.{suffix}" in printed.out
    assert [x["failure"] for x in rows(out)] == [""] * 10

    # From the records themselves: same data, partition, cohorts, weights to begin with, optimizer and budget.
    for seed in (0, 1):
        same = [out / "cells" / name for name in cells if name.endswith(f"-{seed}")]
        assert len(same) == 5
        assert len({json.dumps(summary(cell)["protocol"]) for cell in same}) == 1
        told = [[json.loads(line) for line in (cell / "rounds.jsonl").read_text().splitlines()] for cell in same]
        assert len({json.dumps([record["clients"] for record in records]) for records in told}) == 1
        settings = [yaml.safe_load((cell / "config.yaml").read_text()) for cell in same]
        for key in ("data", "split", "partition", "training", "pretraining", "rounds", "clients", "aggregation"):
            assert len({json.dumps(x[key]) for x in settings}) == 1
    # A cell is a plain run: alone, it gives the same bits.
    alone = tmp_path / "alone"
    assert main(["run", str(out / "cells" / "fedtiny-0.05-1" / "config.yaml"), f"out={alone}"]) == 0
    assert summary(alone)["weights_sha256"] == summary(out / "cells" / "fedtiny-0.05-1")["weights_sha256"]

    # The same again makes nothing again; another grid in its place is refused; more of it goes on with it.
    before = {name: (out / "cells" / name / "summary.json").stat().st_mtime_ns for name in cells}
    assert main(["compare", str(SMOKE), *GRID, f"out={out}"]) == 0
    assert main(["resume", str(out)]) == 0
    capsys.readouterr()
    assert main(["compare", str(SMOKE), *GRID, "training.lr=0.2", f"out={out}"]) == 2
    assert "holds another run (it differs in training.lr)" in capsys.readouterr().err
    assert main(["compare", str(SMOKE), *GRID, "methods=dense,static", "seeds=3", "density=0.1", f"out={out}"]) == 0
    assert "6 runs of 2 methods, 4 of them finished before" in capsys.readouterr().out
    assert {name: (out / "cells" / name / "summary.json").stat().st_mtime_ns for name in cells} == before


def test_a_cell_that_fails_is_told_and_the_others_go_on_and_it_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    stone = out / "cells" / "static-0.1-1" / "rounds.jsonl"
    stone.mkdir(parents=True)
    (stone / "in the way").touch()
    words = ["compare", str(SMOKE), "methods=static,dense", "density=0.1", "seeds=2", "rounds=1", "engine=dense"]
    assert main([*words, f"out={out}"]) == 1
    printed = capsys.readouterr()
    assert "static-0.1-1: failed: IsADirectoryError" in printed.out
    told = printed.err.splitlines()
    assert told[0] == "1 of 4 runs failed:"
    assert told[1].startswith(f"  {out}/cells/static-0.1-1: IsADirectoryError: ")
    assert told[2] == f"try them again with: python -m fedtiny resume {out}"
    assert "Traceback" in (out / "cells" / "static-0.1-1" / "failure.txt").read_text()
    assert [x["failure"][:18] for x in rows(out)].count("IsADirectoryError:") == 1
    assert "IsADirectoryError" in (out / "comparison.html").read_text()
    (stone / "in the way").unlink()
    stone.rmdir()
    assert main(["resume", str(out)]) == 0
    assert "1 that failed tried again" in capsys.readouterr().out
    assert [x["failure"] for x in rows(out)] == [""] * 4
    assert not (out / "cells" / "static-0.1-1" / "failure.txt").exists()


@pytest.mark.slow
def test_a_run_that_diverges_fails_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", str(SMOKE), "methods=static", "density=0.1", "seeds=1", "engine=dense", "training.lr=1e30"]
    assert main([*words, f"out={tmp_path / 'out'}"]) == 1
    assert "it diverged; lower training.lr or pretraining.lr" in capsys.readouterr().err
    assert "0 of 1 runs have a result" in (tmp_path / "out" / "comparison.html").read_text()


def killed_once(folder: str) -> None:
    """Makes a cell's run in a process that dies after two rounds, the first time."""
    diary, records = Path(folder) / "killed.txt", Path(folder) / "rounds.jsonl"

    def wait_and_die() -> None:
        while not records.exists() or len(records.read_bytes().splitlines()) < 2:
            time.sleep(0.001)
        diary.write_text("once")
        os.kill(os.getpid(), signal.SIGKILL)

    if not diary.exists():
        threading.Thread(target=wait_and_die, daemon=True).start()
    make(folder)


@pytest.mark.slow
def test_a_cell_whose_process_is_killed_is_tried_again_and_comes_to_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedtiny.compare.cells.make", killed_once)
    out, cell = tmp_path / "out", tmp_path / "out" / "cells" / "static-0.1-0"
    words = [str(SMOKE), "methods=static", "density=0.1", "seeds=1", "rounds=12", "engine=dense"]
    assert main(["compare", *words, f"out={out}"]) == 0
    assert "failed" not in capsys.readouterr().out
    assert (cell / "killed.txt").read_text() == "once"
    assert main(["run", str(cell / "config.yaml"), f"out={tmp_path / 'alone'}"]) == 0
    alone, again = summary(tmp_path / "alone"), summary(cell)
    assert alone["rounds"] == again["rounds"] == 12
    assert alone["weights_sha256"] == again["weights_sha256"]


@pytest.mark.slow
def test_cells_with_actors_of_their_own_are_made_one_after_the_other(tmp_path: Path) -> None:
    out, inline = tmp_path / "ray", tmp_path / "inline"
    words = ["compare", str(SMOKE), "methods=static", "density=0.1", "seeds=1", "rounds=2", "engine=dense"]
    assert main([*words, "fleet={name: ray, actors: 2}", f"out={out}"]) == 0
    assert main([*words, f"out={inline}"]) == 0
    one, other = (summary(path / "cells" / "static-0.1-0") for path in (out, inline))
    assert one["weights_sha256"] == other["weights_sha256"]


def processes(session: int) -> list[int]:
    """Those of a session that are alive."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            state, _, _, where = (path / "stat").read_text().rsplit(")", 1)[1].split()[:4]
        except (OSError, IndexError, ValueError):
            continue
        if path.name.isdigit() and int(where) == session and state != "Z":
            found.append(int(path.name))
    return found


def gone(session: int) -> bool:
    return not processes(session)


def wait_for(what: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_ctrl_c_then_kill_9_then_resume_give_the_bits_of_an_unbroken_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [str(SMOKE), "methods=static,fedtiny", "density=0.1", "seeds=1", "rounds=150", "engine=dense"]

    def reached(least: int) -> bool:
        told = [len(path.read_bytes().splitlines()) for path in out.glob("cells/*/rounds.jsonl")]
        return max(told, default=0) >= least

    commands = [["compare", *words, f"out={out}"], ["resume", str(out)]]
    for command, least, kill in zip(commands, (3, 40), (signal.SIGINT, signal.SIGKILL), strict=True):
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "fedtiny", *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_for(partial(reached, least), 120)
        if kill == signal.SIGINT:
            os.killpg(process.pid, kill)
        else:
            process.kill()
        _, told = process.communicate(timeout=120)
        if kill == signal.SIGINT:
            assert process.returncode == 130
            assert told.splitlines() == [
                f"interrupted; 0 of 2 runs are finished; go on with: python -m fedtiny resume {out}"
            ]
            # After kill -9 it is Ray that tidies up: its agents stay for a minute or two, what makes runs dies at once.
            wait_for(partial(gone, process.pid), 30)
        assert not list(out.glob("cells/*/summary.json"))
    assert main(["resume", str(out)]) == 0
    alone = tmp_path / "alone"
    assert main(["run", str(out / "cells" / "fedtiny-0.1-0" / "config.yaml"), f"out={alone}"]) == 0
    assert summary(alone)["weights_sha256"] == summary(out / "cells" / "fedtiny-0.1-0")["weights_sha256"]
