"""A run that was broken off goes on to the result of one that was not."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fedtiny.__main__ import main
from fedtiny.methods.base import ServerState
from fedtiny.payload.codec import Held
from fedtiny.payload.training import Training
from fedtiny.server.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fedtiny.server.ledger import Traffic
from fedtiny.sparse.network import Network
from tests.client.test_keep_mask import magnitude_mask
from tests.conftest import SMOKE


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
    at = len(whole) - 100
    for spoilt in (whole[: len(whole) // 2], b"", whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
        last.write_bytes(spoilt)
        found = load_checkpoint(folder)
        assert found is not None
        assert found.state.round == 2 or spoilt[at : at + 1] != whole[at : at + 1]
    last.write_bytes(whole)
    found = load_checkpoint(folder)
    assert found is not None
    assert found.state.round == 3


def lasting(folder: Path) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The figures of a run that do not depend on the clock."""
    summary = json.loads((folder / "summary.json").read_text())
    records = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    for told in (summary, *records):
        for key in [key for key in told if key.startswith(("seconds", "time"))]:
            del told[key]
    return summary, records


OVERRIDES = ["rounds=9", "clients=4", "cohort=2", "seed=3"]


@pytest.mark.parametrize("fleet", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_run_that_was_killed_goes_on_to_the_same_result(tmp_path: Path, fleet: str) -> None:
    """kill -9 of the driver, in the middle of a round, twice; cohorts, so that clients hold different things."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    words = [str(SMOKE), *OVERRIDES, f"fleet.name={fleet}"]
    assert main(["run", *words, f"out={whole}"]) == 0
    commands = [["run", *words, f"out={broken}"], ["resume", str(broken)]]
    for command, stop in zip(commands, ("3/9", "6/9"), strict=True):
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "fedtiny", *command],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if stop in line:
                break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert not (broken / "summary.json").exists()
    assert main(["resume", str(broken)]) == 0
    assert lasting(broken) == lasting(whole)
    assert (broken / "config.yaml").read_text() == (whole / "config.yaml").read_text()


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
