"""Whole sweeps on a real Ray and Tune: the smoke preset, in seconds."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedtiny.__main__ import main as fedtiny
from fedtiny.fleets.boot import booting
from tests.conftest import SMOKE
from tests.test_endurance import processes
from tests.track.offline import rounds, the_run
from tests.tune.test_space import preset
from tune.__main__ import main

pytestmark = pytest.mark.ray
ROOT = SMOKE.parent.parent
# Without pretraining, and without an engine to measure: what a sweep does is the same.
QUICK = ["pretraining.epochs=0", "engine=dense", "method.name=static", "method.density=0.1"]


@pytest.fixture(autouse=True, scope="module")
def _one_ray() -> Iterator[None]:
    """For all sweeps that are made in this process."""
    with booting(None):
        yield


def weights(folder: Path) -> str:
    told: str = json.loads((folder / "summary.json").read_text())["weights_sha256"]
    return told


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))


def test_a_sweep_stops_some_early_lists_what_failed_and_its_best_trial_is_the_same_run_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The first can learn and the others cannot, so that it is clear who is worse; the last one fails.
    rates = [0.05, 0.1, *(1e-6 * n for n in range(5, 0, -1)), 1e30]
    space, aim = {"training.lr": rates}, [{"figure": "test_loss", "direction": "min"}]
    path = preset(tmp_path, space=space, objectives=aim, scheduler={"name": "asha", "reduction": 2}, retries=0)
    out = tmp_path / "out"
    assert main([str(path), str(SMOKE), *QUICK, "rounds=4", f"out={out}"]) == 1
    printed = capsys.readouterr()
    assert "8/8" in printed.out
    told = rows(out)
    assert [row["trial"] for row in told] == [f"{n:04d}" for n in range(8)]
    statuses = [row["status"] for row in told]
    assert set(statuses[:-1]) == {"finished", "stopped"}
    assert statuses[-1] == "failed"
    assert told[-1]["reason"].startswith("ClientFailed: ")
    heading, failed, way_on = printed.err.splitlines()
    assert heading == "1 of 8 trials failed:"
    assert failed.startswith(f"  {out / 'trials' / '0007'}: ClientFailed: ")
    assert way_on == f"try them again with: python -m tune resume {out}"
    for row in told:
        folder = out / "trials" / row["trial"]
        assert (folder / "summary.json").exists() == (row["status"] == "finished")
        if row["status"] != "failed":
            assert len((folder / "rounds.jsonl").read_text().splitlines()) == int(row["rounds"])
        if row["status"] == "stopped":
            assert row["reason"].startswith("asha, after ")
    assert not (out / ".tune").exists()
    assert (out / "sweep.html").is_file()
    best = min((x for x in told if x["status"] == "finished"), key=lambda x: float(x["test_loss"]))
    again = tmp_path / "again"
    assert fedtiny(["run", str(out / "best.yaml"), f"out={again}"]) == 0
    assert weights(again) == weights(out / "trials" / best["trial"])
    capsys.readouterr()
    assert main([str(path), str(SMOKE), f"out={out}"]) == 2
    assert f"out: {out} already holds a sweep; go on with: python -m tune resume {out}" in capsys.readouterr().err


# kill -9 of a population, which is a sweep as well, is in test_population.py.
@pytest.mark.parametrize("by", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_sweep_that_was_ended_or_killed_goes_on_where_it_was(
    tmp_path: Path, scratch: Path, capsys: pytest.CaptureFixture[str], by: signal.Signals
) -> None:
    path = preset(tmp_path, space={"seed": [0, 1]})
    out, words = tmp_path / "out", [str(path), str(SMOKE), *QUICK, "rounds=6", "sweep.trials_at_once=1"]
    first, second = out / "trials" / "0000", out / "trials" / "0001"
    process = subprocess.Popen(
        [sys.executable, "-m", "tune", *words, f"out={out}"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (first / "summary.json").exists() or not list(second.glob("checkpoints/*.safetensors")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(by)
    _, told = process.communicate(timeout=60)
    if by == signal.SIGTERM:
        assert process.returncode == 143
        way_on = f"go on with: python -m tune resume {out}"
        assert told.splitlines() == [f"interrupted; 1 of 2 trials are finished; {way_on}"]
        assert processes(str(scratch)) == {}
        assert list(scratch.glob("fedtiny-*")) == []
    assert not (second / "summary.json").exists()
    before, kept = (first / "summary.json").stat().st_mtime_ns, (second / "rounds.jsonl").read_text().splitlines()[:1]
    assert main(["resume", str(out)]) == 0
    assert "1 of them over before, 1 to go on with" in capsys.readouterr().out
    assert (first / "summary.json").stat().st_mtime_ns == before
    assert (second / "rounds.jsonl").read_text().splitlines()[:1] == kept
    assert [row["status"] for row in rows(out)] == ["finished"] * 2
    again = tmp_path / "again"
    assert fedtiny(["run", str(SMOKE), *QUICK, "rounds=6", "seed=1", f"out={again}"]) == 0
    assert weights(again) == weights(second)


def test_trials_with_actors_hold_them_in_their_own_reservation_and_w_and_b_has_all_their_rounds(tmp_path: Path) -> None:
    space, aim = {"training.lr": [0.05, 1e-6]}, [{"figure": "test_loss", "direction": "min"}]
    path = preset(tmp_path, space=space, objectives=aim, scheduler={"name": "asha", "reduction": 2}, trials_at_once=1)
    out = tmp_path / "out"
    words = [str(path), str(SMOKE), *QUICK, "rounds=2", "tracking.wandb=offline"]
    assert main([*words, "fleet.name=ray", "fleet.actors=1", f"out={out}"]) == 0
    assert [(row["status"], row["rounds"]) for row in rows(out)] == [("finished", "2"), ("stopped", "1")]
    first, second = (out / "trials" / name for name in ("0000", "0001"))
    assert len(rounds(the_run(first))) == 2
    assert len(rounds(the_run(second))) == 1
    again = tmp_path / "again"
    assert fedtiny(["run", str(out / "best.yaml"), "fleet.name=inline", "tracking.wandb=off", f"out={again}"]) == 0
    assert weights(again) == weights(first)


def test_optuna_looks_for_several_things_at_once_and_goes_on_with_what_it_knows(tmp_path: Path) -> None:
    space = {"training.lr": {"loguniform": [0.001, 0.1]}, "method.density": {"choice": [0.1, 0.2]}}
    # The first is known at a trial's end alone.
    aims = [{"figure": "flops_total_rigl", "direction": "min"}, {"figure": "bytes", "direction": "min"}]
    path = preset(tmp_path, space=space, search="optuna", samples=2, objectives=aims, constraints=["density <= 0.15"])
    out = tmp_path / "out"
    assert main([str(path), str(SMOKE), *QUICK, "rounds=2", "sweep.trials_at_once=1", f"out={out}"]) == 0
    asked = (out / "sweep.yaml").read_text()
    (out / "sweep.yaml").write_text(asked.replace("samples: 2", "samples: 4"))
    assert main(["resume", str(out)]) == 0
    told = rows(out)
    assert [row["status"] for row in told] == ["finished"] * 4
    assert len({row["training.lr"] for row in told}) == 4
    assert [row["trial"] for row in told] == [f"{n:04d}" for n in range(4)]
