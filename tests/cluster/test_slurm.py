"""The Slurm script, with stand-ins for Slurm's and Ray's commands that tell what they were called with."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from fedtiny.__main__ import main
from tests.cluster.test_presets import CLUSTER
from tests.conftest import SMOKE

STANDINS = {
    "scontrol": "printf 'node7\\nnode8\\n'",
    "srun": 'printf "%s\\n" "$RAY_AUTH_MODE" "$@"',
    "ray": "echo a-secret",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, does in STANDINS.items():
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(stat.S_IRWXU)
    return tmp_path


def called(checkout: Path, *words: str) -> list[str]:
    """What the script has `srun` do."""
    told = {"SLURM_JOB_ID": "70042", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_NUM_NODES": "2"}
    environment = {**os.environ, **told, "SLURM_CPUS_PER_TASK": "16", "SLURM_SUBMIT_DIR": str(checkout), "USER": "me"}
    command = ["bash", str(CLUSTER / "slurm.sh"), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_ray_starts_on_every_node_with_a_token_and_the_run_on_the_first(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mode, *words = called(checkout, str(SMOKE), "method.density=0.1")
    assert mode == "token"
    assert "a-secret" not in words
    ray, run = words[: words.index("--")], words[words.index("--") + 1 :]
    assert ray[:3] == ["--cpus-per-task=16", "ray", "symmetric-run"]
    assert ray[3:7] == ["--address", "node7:30042", "--min-nodes", "2"]
    assert run[:4] == ["python", "-m", "fedtiny", "run"]
    assert run[-1] == "out=runs/slurm-70042"
    assert main(["show", *run[4:-1]]) == 0
    shown = capsys.readouterr().out
    assert "address: auto" in shown
    assert "density: 0.1" in shown


def test_a_run_goes_on_where_it_was(checkout: Path) -> None:
    words = called(checkout, "resume", "runs/slurm-70041")
    assert words[words.index("--") + 1 :] == ["python", "-m", "fedtiny", "resume", "runs/slurm-70041"]
