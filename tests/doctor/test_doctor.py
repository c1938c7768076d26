"""The doctor at machines that really lack something: a compiler, room, a library that fits, a folder to write to."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from fedtiny.__main__ import main
from fedtiny.doctor import hardware, software
from fedtiny.sparse.engine.kernels import EngineUnavailable, compiles
from tests.test_cli import ROOT

Told = dict[str, dict[str, str]]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))


def told(printed: str) -> Told:
    return {x["what"]: x for x in json.loads(printed)["findings"]}


def test_this_machine_is_healthy_or_could_run_no_other_test(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "fleet.name=inline"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["healthy"]
    found = told(printed)
    looked = ["python", "libraries", "torch", "compiler", "CPUs", "memory", "GPU", "shared memory", "open files"]
    assert list(found) == [*looked, "runs", "temporary files", "cache", "Ray", "W&B"]
    assert all(x["mend"] for x in found.values() if x["state"] != "ok")
    assert f"torch {torch.__version__}" in found["torch"]["text"]


def test_all_that_is_wrong_is_found_each_with_what_to_do(tmp_path: Path) -> None:
    """No compiler, a torchvision that does not fit, few files, a cache that cannot be: in one real process."""
    (tmp_path / "torchvision").mkdir()
    unfit = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchvision" / "__init__.py").write_text(unfit)
    (tmp_path / "file").touch()
    environment = {
        "HOME": str(tmp_path),
        "PATH": str(tmp_path),
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "FEDTINY_CACHE": str(tmp_path / "file" / "cache"),
    }
    command = [sys.executable, "-m", "fedtiny", "doctor"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, preexec_fn=few_files, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[-1] == "2 failures, 2 warnings"
    for i, line in enumerate(lines):
        if line.startswith("failure torch "):
            assert line.endswith("do not fit (operator torchvision::nms does not exist)")
            assert lines[i + 1] == "-> install both anew, as a pair: python -m pip install -r requirements.txt"
        if line.startswith("warning compiler "):
            assert line.startswith("warning compiler no C++ compiler (looked for c++, g++ and clang++); install one")
        if line.startswith("warning open files "):
            assert line == "warning open files at most 1000"
        if line.startswith("failure cache "):
            assert line == f"failure cache {tmp_path / 'file' / 'cache'} cannot be written (Not a directory)"
            assert lines[i + 1] == "-> set $FEDTINY_CACHE to another folder"
    assert sum(line.startswith(("failure ", "warning ")) for line in lines) == 4


def test_libraries_are_held_against_what_is_stated() -> None:
    found = software.libraries(["torch>=99", "no-such-library", "numpy>=2", "colorama; sys_platform == 'nowhere'"])
    assert found.state == "failure"
    assert found.text == f"torch {version('torch')} instead of >=99, no no-such-library"
    assert software.libraries(["numpy>=2"]).text == "all 1 are there and new enough"


def test_a_compiler_that_compiles_nothing_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(
        EngineUnavailable, match=r"^false does not compile a line of C\+\+ \(.*\); mend it or set \$CXX"
    ):
        compiles()


def test_little_room_is_told(small: Path) -> None:
    shared = hardware.shared_memory(small)
    assert (shared.state, shared.text) == ("warning", f"0.00105 GB of 0.00105 GB free in {small}")
    room = hardware.disk("runs", small / "not" / "there" / "yet")
    assert room.state == "failure"
    assert room.mend == "make room, or name another folder with out=DIR"
    (small / "much").write_bytes(bytes(1_048_576))
    full = hardware.disk("runs", small)
    assert (full.state, full.text) == ("failure", f"{small} cannot be written (No space left on device)")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_asked_for_must_be_there() -> None:
    assert hardware.gpu(0.25).state == "failure"
    assert hardware.gpu().state in ("ok", "warning")  # a warning where there is a driver and PyTorch sees nothing


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"WANDB_MODE": "disabled"}, "disabled, as $WANDB_MODE says"),
        ({"WANDB_API_KEY": "x" * 40}, "logged in: runs are logged online, and offline where the network is down"),
        ({}, "not logged in: runs are logged offline, for `wandb sync`; `wandb login` for online"),
    ],
)
def test_where_tracking_goes_needs_no_network(
    environment: dict[str, str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (software.tracking().state, software.tracking().text) == ("ok", text)


def test_a_cluster_that_is_not_there_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "fleet.name=ray", "fleet.address=127.0.0.1:1"]) == 2
    ray = told(capsys.readouterr().out)["Ray"]
    assert ray["state"] == "failure"
    assert ray["text"].endswith("; there is no Ray at 127.0.0.1:1 (Connection refused)")
    assert ray["mend"] == "start one with: ray start --head"


def test_what_is_no_run_is_refused_as_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "fleet.adress=auto"]) == 2
    assert capsys.readouterr().err.startswith("config: fleet.adress: there is no such key; did you mean address?")
