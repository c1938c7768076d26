"""A run that was broken off goes on to the result of one that was not."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fedtiny.__main__ import main
from fedtiny.config.load import load
from fedtiny.methods.base import ServerState
from fedtiny.payload.codec import Held
from fedtiny.payload.training import Training
from fedtiny.server.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fedtiny.server.ledger import Traffic
from fedtiny.sparse.network import Network
from tests.client.test_keep_mask import magnitude_mask
from tests.conftest import SMOKE
from tests.fleets.mortal import Moment


def checkpoint(network: Network, round: int) -> Checkpoint:
    mask = magnitude_mask(network, 0.1)
    weights = {name: x + round for name, x in network.weights.items()}
    shared, alone = Held({}, mask, Training()), Held(weights, None, None)
    memory = {"counts": torch.arange(3, dtype=torch.float64)}
    held = {0: shared, 1: shared, 5: alone}
    return Checkpoint(ServerState(round, weights, mask, memory), held, Traffic(3, 4, {1: 2.5}), 7.5, 1.25)


def test_a_checkpoint_survives_the_disk_in_the_order_it_had(network: Network, tmp_path: Path) -> None:
    before = checkpoint(network, 3)
    save_checkpoint(tmp_path / "c", before)
    after = load_checkpoint(tmp_path / "c")
    assert after is not None
    assert (after.state.round, after.seconds, after.seconds_to_first_round) == (3, 7.5, 1.25)
    assert after.selection == before.selection
    assert list(after.state.weights) == list(before.state.weights)
    assert all(x.equal(after.state.weights[name]) for name, x in before.state.weights.items())
    assert before.state.mask is not None
    assert before.state.mask.equals(after.state.mask)
    assert list(after.state.mask.keep if after.state.mask else []) == list(before.state.mask.keep)
    assert after.state.memory["counts"].tolist() == [0, 1, 2]
    assert after.held[0] is after.held[1]
    assert after.held[0].training == Training()
    assert before.state.mask.equals(after.held[1].mask)
    assert after.held[5].mask is None
    assert list(after.held[5].weights) == list(before.state.weights)


def test_the_last_two_are_kept_and_a_torn_or_changed_one_is_passed_over(network: Network, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    assert load_checkpoint(folder) is None
    for r in (1, 2, 3):
        save_checkpoint(folder, checkpoint(network, r))
    assert sorted(path.name for path in folder.iterdir()) == ["000002.safetensors", "000003.safetensors"]
    last = folder / "000003.safetensors"
    whole = last.read_bytes()
    tensor, told = len(whole) - 100, whole.index(b"settings")
    for damage, spoilt, used in (
        ("none", whole, 3),
        ("half of it", whole[: len(whole) // 2], 2),
        ("all but a byte", whole[:-1], 2),
        ("empty", b"", 2),
        ("a bit of a tensor", flipped(whole, tensor), 2),
        ("a bit of what it says", flipped(whole, told), 2),
        ("zeros", bytes(len(whole)), 2),
        ("healed", whole, 3),
    ):
        last.write_bytes(spoilt)
        found = load_checkpoint(folder)
        assert (damage, found and found.state.round) == (damage, used)
    for path in folder.iterdir():
        path.write_bytes(b"")
    assert load_checkpoint(folder) is None


def flipped(whole: bytes, at: int) -> bytes:
    return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


def lasting(folder: Path) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The figures of a run that do not depend on the clock or the machine."""
    summary = json.loads((folder / "summary.json").read_text())
    records = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    for told in (summary, *records):
        for key in [key for key in told if key.startswith(("seconds", "time", "driver_peak"))]:
            del told[key]
    return summary, records


WORDS = ["rounds=5", "clients=4", "cohort=3", "seed=3", "engine=dense"]
"""Cohorts, so that clients hold different things."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbs."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(["run", str(SMOKE), *WORDS, f"out={out}"]) == 0
    return out


@dataclass(frozen=True)
class Kill:
    """When a driver is killed, and what is on disk then."""

    moment: Moment
    round: int
    records: int
    checkpoint: int
    torn: bool = False


@pytest.mark.parametrize(
    ("fleet", "kills"),
    [
        (
            "{name: inline}",
            (
                Kill("told", 0, records=1, checkpoint=0),
                Kill("asked", 1, records=1, checkpoint=1),
                Kill("answered", 2, records=2, checkpoint=2),
                Kill("saving", 3, records=4, checkpoint=3, torn=True),
            ),
        ),
        pytest.param(
            "{name: ray, actors: 2}",
            (Kill("answered", 1, records=1, checkpoint=1), Kill("asked", 3, records=3, checkpoint=3)),
            marks=pytest.mark.ray,
        ),
    ],
    ids=["inline", "ray"],
)
def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_result(
    tmp_path: Path, scratch: Path, whole: Path, fleet: str, kills: tuple[Kill, ...]
) -> None:
    """kill_driver_between_rounds, kill_driver_mid_round: of one run, one kill after the other."""
    broken = tmp_path / "broken"
    for i, kill in enumerate(kills):
        words = [] if i else [*WORDS, f"fleet={fleet}"]
        with (tmp_path / "stderr").open("w") as stderr:  # a pipe would end with the last of Ray's orphans
            done = subprocess.run(
                [sys.executable, "-m", "tests.fleets.mortal", kill.moment, str(kill.round), str(broken), *words],
                cwd=SMOKE.parents[1],
                env=os.environ | {"TMPDIR": str(scratch)},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                timeout=240,
                check=False,
            )
        end = signal.SIGXFSZ if kill.moment == "saving" else signal.SIGKILL
        complaint = (tmp_path / "stderr").read_text()
        assert (done.returncode, "Traceback" in complaint) == (-end, False), complaint
        saved = sorted((broken / "checkpoints").glob("*.safetensors"))
        found = Kill(
            kill.moment,
            kill.round,
            records=len((broken / "rounds.jsonl").read_text().splitlines()),
            checkpoint=int(saved[-1].stem) if saved else 0,
            torn=(broken / "checkpoints").exists() and len(list((broken / "checkpoints").iterdir())) > len(saved),
        )
        assert found == kill
    assert main(["resume", str(broken)]) == 0
    assert lasting(broken) == lasting(whole)
    assert load([broken / "config.yaml"], ["fleet.name=inline"]) == load([whole / "config.yaml"])
    assert len(list((broken / "checkpoints").iterdir())) == 2


def test_what_cannot_be_resumed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(tmp_path / "nothing")]) == 2
    assert "holds no run (there is no config.yaml); name a run's folder" in capsys.readouterr().err
    out = tmp_path / "out"
    assert main(["run", str(SMOKE), "rounds=1", "engine=dense", f"out={out}"]) == 0
    capsys.readouterr()
    assert main(["resume", str(out)]) == 2
    assert "this run is finished" in capsys.readouterr().err
    (out / "summary.json").unlink()  # as if killed while the files were written: nothing is left to train
    first = (out / "rounds.jsonl").read_text()
    assert main(["resume", str(out)]) == 0
    assert (out / "rounds.jsonl").read_text() == first
    assert (out / "report.html").exists()
