"""Runs in a hostile world: no network, no room, killed, many in a row, long. A real process with a real Ray each."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from fedtiny.__main__ import main
from fedtiny.fleets.scratch import clear_dead
from tests.conftest import SMOKE

ROOT = SMOKE.parent.parent
RAY = "fleet={name: ray, actors: 2}"


def command(*words: str) -> list[str]:
    return [sys.executable, "-u", "-m", "fedtiny", *words]


def processes(marker: str) -> dict[int, str]:
    """Living processes, and what they are called, that have `marker` in their environment or among their open files.

    An actor writes its name, `ray::ClientActor`, over its command line, and a long one over its environment too.
    """
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            files = []
            for file in (path / "fd").iterdir():
                with suppress(FileNotFoundError):  # closed meanwhile
                    files.append(os.readlink(file))
            name = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if marker.encode() in (path / "environ").read_bytes() or any(marker in file for file in files):
                found[int(path.name)] = name
        except OSError:  # gone meanwhile, or another user's
            continue
    return found


def until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return


def orphans(scratch: Path, staying: tuple[str, ...]) -> dict[int, str]:
    return {pid: name for pid, name in processes(str(scratch)).items() if not name.startswith(staying)}


@pytest.mark.ray
@pytest.mark.parametrize("end", ["itself", "ctrl-c", "kill -9"])
def test_no_process_and_no_file_of_rays_is_left_after_a_run(
    tmp_path: Path, scratch: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert sum("ray::ClientActor" in name for name in processes(str(scratch)).values()) == 2
    if end == "ctrl-c":
        os.killpg(process.pid, signal.SIGINT)
    elif end == "kill -9":
        os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    # Of a Ray that was killed two idle agents stay for a minute or two, until they give up asking for it.
    staying = ("ray::DashboardAgent", "ray::RuntimeEnvAgent") if end == "kill -9" else ()
    patience = time.monotonic() + (20 if end == "kill -9" else 2)
    while (left := orphans(scratch, staying)) and time.monotonic() < patience:
        time.sleep(0.2)
    assert left == {}
    if end == "kill -9":  # the next Ray clears away what is left
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))
        clear_dead()
        assert orphans(scratch, ()) == {}
    assert list(scratch.iterdir()) == []


@pytest.mark.ray
def test_a_run_writes_to_its_folder_and_the_cache_alone(tmp_path: Path, scratch: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    before = set(Path("/tmp").iterdir())
    # PyTorch's compiler names its folder in the environment of whatever process imports it.
    environment = {k: v for k, v in os.environ.items() if k not in ("FEDTINY_CACHE", "TORCHINDUCTOR_CACHE_DIR")}
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
    # What docs/fleet.md names: our cache, and what Ray, W&B and matplotlib keep of their own.
    allowed = (
        ".cache/fedtiny/",
        ".cache/wandb/",
        ".config/wandb/",
        ".cache/matplotlib/",
        ".config/matplotlib/",
        ".ray/auth_token",
    )
    assert [path for path in written if not path.startswith((*allowed, ".local/share/wandb"))] == []
    assert [path for path in set(Path("/tmp").iterdir()) - before if "ray" in path.name or "torch" in path.name] == []


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


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a disk of its own")
def test_a_disk_that_is_full_when_the_summary_is_written_loses_nothing(tmp_path: Path) -> None:
    """disk_full, at the very end: of a real file system that has room for eight files and folders, and no more."""
    disk, made = tmp_path / "disk", tmp_path / "made"
    disk.mkdir()
    run = " ".join(command("run", f"'{SMOKE}'", "rounds=2", "engine=dense", f"out='{disk}'"))
    resume = " ".join(command("resume", f"'{disk}'"))
    script = (
        f"mount -t tmpfs -o nr_inodes=9 none '{disk}' || exit 77; {run}; echo $? > '{made}.code'\n"
        f"cp -r '{disk}' '{made}'; mount -o remount,nr_inodes=99 '{disk}'\n"
        f"{resume}; code=$?; cp -r '{disk}' '{made}2'; exit $code"
    )
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("no file systems of our own here")
    assert (tmp_path / "made.code").read_text() == "1\n"
    assert done.stderr.splitlines() == [
        f"the run stops, since it cannot write: No space left on device ({disk / 'summary.json'})",
        f"make room, then go on with: python -m fedtiny resume {disk}",
    ]
    left = ["checkpoints", "config.yaml", "model.safetensors", "report.html", "rounds.jsonl"]
    assert sorted(path.name for path in made.iterdir()) == left
    assert done.returncode == 0
    after = tmp_path / "made2"
    assert sorted(path.name for path in after.iterdir()) == [*left, "summary.json"]
    assert (after / "rounds.jsonl").read_text() == (made / "rounds.jsonl").read_text()
    assert (after / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()
    last = json.loads((made / "rounds.jsonl").read_text().splitlines()[-1])
    assert json.loads((after / "summary.json").read_text())["weights_sha256"] == last["weights_sha256"]


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


@pytest.mark.slow
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
