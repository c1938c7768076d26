"""Runs in a hostile world: no network, no room, killed, many in a row, long. A real process with a real Ray each."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedtiny.__main__ import main
from tests.conftest import SMOKE

ROOT = SMOKE.parent.parent
RAY = "fleet={name: ray, actors: 2}"


def command(*words: str) -> list[str]:
    return [sys.executable, "-u", "-m", "fedtiny", *words]


def processes(part: str) -> list[str]:
    """Command lines of living processes that contain `part`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if part in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


def until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for temporary files with a name short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as folder:
        yield Path(folder)


@pytest.mark.ray
@pytest.mark.parametrize("end", ["itself", "ctrl-c", "kill -9"])
def test_no_process_and_no_file_of_rays_is_left_after_a_run(tmp_path: Path, scratch: Path, end: str) -> None:
    """no_orphans."""
    process = subprocess.Popen(
        command("run", str(SMOKE), RAY, "rounds=3" if end == "itself" else "rounds=5000", f"out={tmp_path / 'out'}"),
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    until(process, "2/")
    assert processes(str(scratch))
    if end == "ctrl-c":
        os.killpg(process.pid, signal.SIGINT)
    elif end == "kill -9":
        os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    patience = time.monotonic() + (20 if end == "kill -9" else 2)
    while processes(str(scratch)) and time.monotonic() < patience:
        time.sleep(0.2)
    assert processes(str(scratch)) == []
    if end != "kill -9":  # its folder is left to whoever clears /tmp
        assert list(scratch.iterdir()) == []


@pytest.mark.ray
def test_a_run_writes_to_its_folder_and_the_cache_alone(tmp_path: Path, scratch: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    before = set(Path("/tmp").iterdir())
    environment = {k: v for k, v in os.environ.items() if k != "FEDTINY_CACHE"}
    environment |= {"HOME": str(home), "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command("run", str(SMOKE), RAY, "out=out", "tracking.wandb=offline"),
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [x.name for x in here.iterdir()] == ["out"]
    assert list(scratch.iterdir()) == []
    written = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    # What docs/architecture.md names: our cache, and what Ray, W&B and matplotlib keep of their own.
    allowed = (
        ".cache/fedtiny/",
        ".cache/wandb/",
        ".config/wandb/",
        ".cache/matplotlib/",
        ".config/matplotlib/",
        ".ray/auth_token",
    )
    assert [path for path in written if not path.startswith((*allowed, ".local/share/wandb"))] == []
    assert [path for path in set(Path("/tmp").iterdir()) - before if "ray" in path.name] == []


@pytest.mark.ray
@pytest.mark.skipif(shutil.which("unshare") is None or os.getuid() != 0, reason="needs a network namespace")
def test_a_run_needs_no_network_but_loopback(tmp_path: Path) -> None:
    """offline_no_network: whatever it would connect to beyond this machine is not there."""
    inside = f"ip link set lo up && exec {' '.join(command('run', str(SMOKE), 'fleet.name=ray', f'out={tmp_path}/o'))}"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", inside + " tracking.wandb=auto"],
        cwd=ROOT,
        env=os.environ | {"WANDB_API_KEY": "0" * 40},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if "ip: not found" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("no network namespaces here")
    assert done.returncode == 0
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["rounds"] == 4


def test_a_full_disk_stops_the_run_in_two_lines_and_spoils_nothing(tmp_path: Path) -> None:
    """disk_full: no file may grow beyond 30 kB, as if the disk had no more; a checkpoint does not fit."""
    whole, full = tmp_path / "whole", tmp_path / "full"
    words = [str(SMOKE), "rounds=3", "model.width=6"]
    assert main(["run", *words, f"out={whole}"]) == 0
    text = " ".join(command("run", f"'{SMOKE}'", "rounds=3", "model.width=6", f"out='{full}'"))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 30; exec {text}"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    first, second = done.stderr.splitlines()
    assert done.returncode == 1
    assert first.startswith("the run stops, since it cannot write: ")
    assert second == f"make room, then go on with: python -m fedtiny resume {full}"
    assert list((full / "checkpoints").iterdir()) == []
    assert main(["resume", str(full)]) == 0
    a, b = (json.loads((folder / "summary.json").read_text())["weights_sha256"] for folder in (whole, full))
    assert a == b


def test_a_run_that_goes_on_is_not_resumed_by_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command("run", str(SMOKE), "rounds=5000", f"out={out}"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    until(process, "2/5000")
    assert main(["resume", str(out)]) == 2
    assert f"config: {out}: this run is going on in another process; wait for it, or end it" in capsys.readouterr().err
    process.kill()
    process.communicate(timeout=60)


def resident_bytes() -> int:
    """Of this process."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("fleet", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_memory_does_not_grow_over_300_rounds(tmp_path: Path, fleet: str) -> None:
    """soak_300_rounds: what is held of a round is its record, a few kilobytes."""
    from fedtiny.config.load import load
    from fedtiny.prepare import prepare
    from fedtiny.run import run
    from fedtiny.track.record import RoundRecord
    from fedtiny.track.sinks import Sink

    grown: list[int] = []

    class Watching(Sink):
        def round(self, record: RoundRecord) -> None:
            if record.round % 50 == 49:
                grown.append(resident_bytes())

    config = load([SMOKE], ["rounds=300", "evaluate_every=10", f"fleet.name={fleet}"])
    (tmp_path / "run").mkdir()
    run(prepare(config), tmp_path / "run", [Watching()])
    assert len(grown) == 6
    assert grown[-1] - grown[1] < 12_000_000


@pytest.mark.ray
@pytest.mark.slow
def test_twenty_runs_in_one_process(tmp_path: Path) -> None:
    shas, memory = set(), []
    for i in range(20):
        out = tmp_path / str(i)
        assert main(["run", str(SMOKE), RAY, "rounds=2", f"out={out}"]) == 0
        shas.add(json.loads((out / "summary.json").read_text())["weights_sha256"])
        memory.append(resident_bytes())
    assert len(shas) == 1
    assert memory[-1] - memory[4] < 60_000_000
