"""A real W&B, offline."""

from dataclasses import replace
from pathlib import Path

import pytest

from fedtiny.track.wandb import Wandb, logged_in
from tests.track.offline import history, rounds, summary, the_run
from tests.track.test_report import RECORDS, START, SUMMARY, TABLE

CONFIG: dict[str, object] = {"seed": 1, "method": {"name": "ours", "density": 0.01}}


def sink(folder: Path, mode: str = "offline") -> Wandb:
    assert mode in ("auto", "offline")
    tags = ("ours", "density 0.01")
    return Wandb(folder, "test", CONFIG, "offline" if mode == "offline" else "auto", "fedtiny", "group", "ours", tags)


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
    messages = the_run(tmp_path)
    keys = {key for step in history(messages) for key in step} | set(summary(messages))
    assert {"round", "test_accuracy", "train_loss", "upload_bytes", "density", "layer_density/a.weight"} <= keys
    assert {"flops/rigl", "flops/fedrts", "candidates", "layer_densities", "so_far/bytes"} <= keys
    media = {path.suffix for path in tmp_path.rglob("media/**/*") if path.is_file()}
    assert {".png", ".json"} <= media


def test_panels_find_group_tags_settings_and_figures(tmp_path: Path) -> None:
    run = sink(tmp_path)
    run.start(START)
    run.found([])
    run.round(RECORDS[0])
    run.finish(SUMMARY)
    run.close()
    messages = the_run(tmp_path)
    told = next(x.run for x in messages if x.WhichOneof("record_type") == "run")
    assert (told.run_group, told.job_type, list(told.tags)) == ("group", "ours", ["ours", "density 0.01"])
    assert {item.key: item.value_json for item in told.config.update}["method"] == '{"name":"ours","density":0.01}'
    figures = summary(messages)
    assert figures["test_accuracy"] == 0.75
    assert figures["upload_bytes"] == 200  # of the whole run, and not of its last round
    assert figures["flops_per_round_max/rigl"] == 1e6


def test_a_run_that_goes_on_has_one_log_with_each_round_once(tmp_path: Path) -> None:
    made = [replace(RECORDS[0], round=i) for i in range(5)]
    first = sink(tmp_path)
    first.start(START)
    first.resumed([])
    first.found([TABLE])
    for record in made[:4]:
        first.round(record)
    first.close()  # the checkpoint of round 4 was lost: it is made again
    before = the_run(tmp_path)
    assert summary(before)["upload_bytes"] == 400
    assert [x["round"] for x in rounds(before)] == [0, 1, 2, 3]

    second = sink(tmp_path)
    second.start(START)
    second.resumed(made[:3])
    second.found([TABLE])
    for record in made[3:]:
        second.round(record)
    second.finish(SUMMARY)
    second.close()
    messages = the_run(tmp_path)
    steps = rounds(messages)
    assert [x["round"] for x in steps] == [0, 1, 2, 3, 4]
    assert [x["so_far/bytes"] for x in steps] == [220, 440, 660, 880, 1100]
    assert sum("candidates" in x for x in history(messages)) == 1
    assert {x.run.run_id for x in messages if x.run.run_id} == {x.run.run_id for x in before if x.run.run_id}


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
