"""A real W&B, offline."""

import struct
from pathlib import Path

import pytest
from wandb.proto import wandb_internal_pb2

from fedtiny.track.wandb import Wandb, logged_in
from tests.track.test_report import RECORDS, START, TABLE


def sink(folder: Path, mode: str = "offline") -> Wandb:
    assert mode in ("auto", "offline")
    return Wandb(folder, "test", {"seed": 1}, "offline" if mode == "offline" else "auto", "fedtiny", "group")


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def test_logged_in_looks_at_the_environment_and_netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not logged_in()
    (tmp_path / "no-netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "k")
    assert logged_in()


def logged_keys(log: bytes) -> set[str]:
    """Names in the history and the summary of a .wandb file: 7 bytes, then LevelDB's log of protobuf records."""
    whole, position, keys = b"", 7, set()
    while position + 7 <= len(log):
        left = 32768 - position % 32768
        if left < 7:  # a block never ends in a part of a header
            position += left
            continue
        length, kind = struct.unpack_from("<HB", log, position + 4)
        whole += log[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = vars(wandb_internal_pb2)["Record"].FromString(whole)  # it has no types
            items = [*record.history.item, *record.summary.update]
            keys |= {item.key or item.nested_key[0] for item in items}
            whole = b""
    return keys


@pytest.mark.parametrize("mode", ["auto", "offline"])
def test_an_offline_run_holds_rounds_candidates_and_the_heat_map(
    tmp_path: Path, mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    run = sink(tmp_path, mode)
    run.start(START)
    run.found([TABLE])
    for record in RECORDS:
        run.round(record)
    run.finish({"test_accuracy": 0.5})
    run.close()
    assert not run.broken
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""
    (offline,) = (tmp_path / "wandb").glob("offline-run-*")
    (log,) = offline.glob("run-*.wandb")
    keys = logged_keys(log.read_bytes())
    assert {"round", "test_accuracy", "train_loss", "upload_bytes", "density", "layer_density/a.weight"} <= keys
    assert {"flops/rigl", "flops/fedrts", "candidates", "layer_densities"} <= keys
    media = {path.suffix for path in offline.rglob("media/**/*") if path.is_file()}
    assert {".png", ".json"} <= media


def test_a_broken_wandb_ends_the_tracking_with_one_line_and_not_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    run = sink(file / "below")
    run._project = "a/b?#"  # W&B refuses such a name
    run.start(START)
    run.round(RECORDS[0])
    run.finish({})
    run.close()
    assert run.broken
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("W&B: tracking stops here, the run goes on (")


def test_wandb_disabled_by_the_environment_writes_nothing_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = sink(tmp_path, "auto")
    run.start(START)
    run.found([TABLE])
    run.round(RECORDS[0])
    run.finish({})
    run.close()
    assert not (tmp_path / "wandb").exists()
    assert capsys.readouterr() == ("", "")
