"""`ray job submit` with the checkout as its working directory: what travels, and a run at a real head."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from ray._private.runtime_env.packaging import create_package

from fedtiny.fleets.family import end
from tests.test_cli import ROOT

MOST_BYTES = 5_000_000
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what travels or does not, with data, results and an environment such as work leaves behind."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("fedtiny", "tune", "configs", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", ".rayignore", "pyproject.toml", "requirements.txt", "README.md"):
        shutil.copy(ROOT / name, copy / name)
    left = ("data/cifar.bin", "runs/a/model.safetensors", "wandb/log", ".venv/bin/python", "pictures.tar.gz", "docs/x")
    for name in left:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(bytes(1000))
    return copy


def test_code_and_presets_travel_and_neither_data_nor_results(checkout: Path, tmp_path: Path) -> None:
    target = tmp_path / "package.zip"
    create_package(str(checkout), target, include_gitignore=True)
    with zipfile.ZipFile(target) as package:
        names = {name for name in package.namelist() if not name.endswith("/")}
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "fedtiny",
        "tune",
        "configs",
        ".gitignore",
        ".rayignore",
        "pyproject.toml",
        "requirements.txt",
        "README.md",
    }
    assert {"fedtiny/data/datasets.py", "configs/data/cifar10.yaml", "fedtiny/sparse/engine/kernels.cpp"} <= names
    assert target.stat().st_size < MOST_BYTES


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


@pytest.fixture
def head(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A head as `ray start` makes it, that takes jobs; gives the address of its dashboard."""
    if find_spec("opencensus") is None or find_spec("aiohttp_cors") is None:
        pytest.skip("needs ray[default]: make test-job")
    for name, value in {
        "RAY_AUTH_MODE": "disabled",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONPATH", raising=False)  # what runs is to be what travelled
    port, pages = free_port(), free_port()
    options = [f"--port={port}", "--num-cpus=2", f"--temp-dir={scratch}", f"--dashboard-port={pages}"]
    options.append(f"--dashboard-agent-listen-port={free_port()}")  # its usual one may be another Ray's
    try:
        subprocess.run([*RAY, "start", "--head", *options], check=True, capture_output=True)
        yield f"http://127.0.0.1:{pages}"
    finally:
        named = [x for x in psutil.process_iter(["cmdline"]) if any(str(scratch) in y for y in x.info["cmdline"] or ())]
        end([*named, *(below for x in named for below in x.children(recursive=True))], 0.0)


@pytest.mark.ray
def test_a_job_runs_the_code_that_travelled_and_joins_the_heads_cluster(
    head: str, checkout: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (checkout / "configs" / "travelled.yaml").write_text("name: travelled\nrounds: 1\nengine: {name: dense}\n")
    run = ["python", "-m", "fedtiny", "run", "configs/smoke.yaml", "configs/travelled.yaml"]
    fleet = ["fleet={name: ray, address: auto}", f"out={out}"]
    submit = ["job", "submit", "--address", head, "--working-dir", str(checkout), "--", *run, *fleet]
    for _ in range(30):
        done = subprocess.run([*RAY, *submit], cwd=tmp_path, capture_output=True, text=True, check=False)
        if "No available agent" not in done.stderr:  # it starts a little later than its head
            break
        time.sleep(1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "travelled: fedtiny, synthetic, resnet8, 3 clients" in done.stdout
    assert json.loads((out / "summary.json").read_text())["rounds"] == 1
