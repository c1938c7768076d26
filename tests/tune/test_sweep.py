"""Whole sweeps on a real Ray and Tune: the smoke preset, in seconds."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from fedtiny.__main__ import main as fedtiny
from fedtiny.fleets.boot import booting
from fedtiny.fleets.limits import usable_cpus
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


def test_a_sweep_stops_some_early_and_its_best_trial_is_the_same_run_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The first can learn and the others cannot, so that it is clear who is worse.
    rates = [0.05, 0.1, *(1e-6 * n for n in range(6, 0, -1))]
    space, aim = {"training.lr": rates}, [{"figure": "test_loss", "direction": "min"}]
    path = preset(tmp_path, space=space, objectives=aim, scheduler={"name": "asha", "reduction": 2})
    out = tmp_path / "out"
    assert main([str(path), str(SMOKE), *QUICK, "rounds=4", f"out={out}"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "8/8" in printed.out
    told = rows(out)
    assert [row["trial"] for row in told] == [f"{n:04d}" for n in range(8)]
    statuses = [row["status"] for row in told]
    assert set(statuses) == {"finished", "stopped"}
    for row in told:
        folder = out / "trials" / row["trial"]
        assert (folder / "summary.json").exists() == (row["status"] == "finished")
        assert len((folder / "rounds.jsonl").read_text().splitlines()) == int(row["rounds"])
        if row["status"] == "stopped":
            assert row["reason"].startswith("asha, after ")
    assert not (out / ".tune").exists()
    assert (out / "sweep.html").is_file()
    best = min((x for x in told if x["status"] == "finished"), key=lambda x: float(x["test_loss"]))
    again = tmp_path / "again"
    assert fedtiny(["run", str(out / "best.yaml"), f"out={again}"]) == 0
    assert weights(again) == weights(out / "trials" / best["trial"])


def test_a_trial_that_fails_is_listed_with_its_reason_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known_at_the_end = [{"figure": "flops_total_rigl", "direction": "min"}]
    path = preset(tmp_path, space={"training.lr": [1e30, 0.05]}, objectives=known_at_the_end, retries=0)
    out = tmp_path / "out"
    assert main([str(path), str(SMOKE), *QUICK, f"out={out}"]) == 1
    told = rows(out)
    assert [row["status"] for row in told] == ["failed", "finished"]
    assert told[0]["reason"].startswith("ClientFailed: ")
    assert f"{out / 'trials' / '0000'}: ClientFailed: " in capsys.readouterr().err
    assert main([str(path), str(SMOKE), f"out={out}"]) == 2
    assert f"out: {out} already holds a sweep; go on with: python -m tune resume {out}" in capsys.readouterr().err


def ended_at(process: subprocess.Popen[str], what: Callable[[], object], by: signal.Signals) -> tuple[int, str]:
    """Ends it when that is so; its exit code, and what it said to stderr."""
    deadline = time.monotonic() + 120
    while not what():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(by)
    _, told = process.communicate(timeout=60)
    return process.returncode, told


def test_a_sweep_that_was_ended_or_killed_goes_on_where_it_was(
    tmp_path: Path, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = preset(tmp_path, space={"seed": [0, 1, 2]})
    out, words = tmp_path / "out", [str(path), str(SMOKE), *QUICK, "rounds=6", "sweep.trials_at_once=1"]
    first, second = out / "trials" / "0000", out / "trials" / "0001"

    def started(*words: str) -> subprocess.Popen[str]:
        command, environment = [sys.executable, "-m", "tune", *words], os.environ | {"TMPDIR": str(scratch)}
        return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)

    process = started(*words, f"out={out}")
    code, told = ended_at(process, lambda: list(first.glob("checkpoints/*.safetensors")), signal.SIGTERM)
    assert code == 143
    (line,) = told.splitlines()  # its first trial may have got to its end meanwhile
    assert line.startswith("interrupted; ")
    assert line.endswith(f" of 3 trials are finished; go on with: python -m tune resume {out}")
    assert processes(str(scratch)) == {}
    assert list(scratch.glob("fedtiny-*")) == []

    process = started("resume", str(out))
    ended_at(process, lambda: list(second.glob("checkpoints/*.safetensors")), signal.SIGKILL)
    assert (first / "summary.json").exists()
    assert not (second / "summary.json").exists()
    before, kept = (first / "summary.json").stat().st_mtime_ns, (second / "rounds.jsonl").read_text().splitlines()[:1]
    assert main(["resume", str(out)]) == 0
    assert "1 of them over before, 1 to go on with" in capsys.readouterr().out
    assert (first / "summary.json").stat().st_mtime_ns == before
    assert (second / "rounds.jsonl").read_text().splitlines()[:1] == kept
    assert [row["status"] for row in rows(out)] == ["finished"] * 3
    again = tmp_path / "again"
    assert fedtiny(["run", str(SMOKE), *QUICK, "rounds=6", "seed=1", f"out={again}"]) == 0
    assert weights(again) == weights(second)


def test_trials_with_actors_hold_them_in_their_own_reservation_and_w_and_b_has_all_their_rounds(tmp_path: Path) -> None:
    space, aim = {"training.lr, clients": [[0.05, 3], [1e-6, 1]]}, [{"figure": "test_loss", "direction": "min"}]
    path = preset(tmp_path, space=space, objectives=aim, scheduler={"name": "asha", "reduction": 2}, trials_at_once=1)
    out = tmp_path / "out"
    words = [str(path), str(SMOKE), *QUICK, "rounds=2", "tracking.wandb=offline"]
    before = set(ray.util.placement_group_table()) if ray.is_initialized() else set()
    assert main([*words, "fleet.name=ray", "fleet.actors=auto", f"out={out}"]) == 0
    groups = [group for key, group in ray.util.placement_group_table().items() if key not in before]
    # An actor for each client, if there is room; Tune leaves out the driver's part, which is of nothing.
    assert sorted(len(group["bundles"]) for group in groups) == [1, min(3, usable_cpus())]
    assert [(row["status"], row["rounds"]) for row in rows(out)] == [("finished", "2"), ("stopped", "1")]
    first, second = (out / "trials" / name for name in ("0000", "0001"))
    assert len(rounds(the_run(first))) == 2
    assert len(rounds(the_run(second))) == 1
    again = tmp_path / "again"
    assert fedtiny(["run", str(out / "best.yaml"), "fleet.name=inline", "tracking.wandb=off", f"out={again}"]) == 0
    assert weights(again) == weights(first)


def test_optuna_looks_for_several_things_at_once_and_goes_on_with_what_it_knows(tmp_path: Path) -> None:
    space = {"training.lr": {"loguniform": [0.001, 0.1]}, "method.density": {"choice": [0.1, 0.2]}}
    aims = [{"figure": "test_loss", "direction": "min"}, {"figure": "bytes", "direction": "min"}]
    path = preset(tmp_path, space=space, search="optuna", samples=2, objectives=aims, constraints=["density <= 0.15"])
    out = tmp_path / "out"
    assert main([str(path), str(SMOKE), *QUICK, "rounds=2", f"out={out}"]) == 0
    asked = (out / "sweep.yaml").read_text()
    (out / "sweep.yaml").write_text(asked.replace("samples: 2", "samples: 4"))
    assert main(["resume", str(out)]) == 0
    told = rows(out)
    assert [row["status"] for row in told] == ["finished"] * 4
    assert len({row["training.lr"] for row in told}) == 4
    assert [row["trial"] for row in told] == [f"{n:04d}" for n in range(4)]
