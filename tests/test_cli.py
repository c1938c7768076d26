"""The command line as a person uses it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml

from fedtiny.__main__ import main
from fedtiny.methods import AnyMethod
from fedtiny.server.model_file import load_model
from tests.conftest import SMOKE

ROOT = SMOKE.parent.parent
NAMES = [kind.model_fields["name"].default for kind in get_args(get_args(AnyMethod)[0])]


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def test_a_run_writes_all_its_files_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["run", str(SMOKE), f"out={out}", "tracking.wandb=offline"]) == 0
    names = ["checkpoints", "config.yaml", "model.safetensors", "report.html", "rounds.jsonl", "summary.json", "wandb"]
    assert sorted(path.name for path in out.iterdir()) == names
    printed = capsys.readouterr()
    assert printed.err == ""
    assert all(str(out / name) in printed.out for name in names)
    assert "Candidates" in printed.out
    for n in range(1, 5):
        assert f"{n}/4" in printed.out
    records = [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]
    assert [record["round"] for record in records] == [0, 1, 2, 3]
    summary = json.loads((out / "summary.json").read_text())
    wanted = [
        "method",
        "seed",
        "rounds",
        "clients",
        "parameters",
        "prunable",
        "density_target",
        "density",
        "density_all",
        "test_accuracy",
        "test_loss",
        "upload_bytes",
        "download_bytes",
        "selection_bytes",
        "flops_per_round_max",
        "memory_bytes_max",
        "driver_peak_bytes",
        "seconds",
        "weights_sha256",
    ]
    assert set(wanted) <= set(summary)
    assert set(summary["flops_per_round_max"]) == {"rigl", "fedrts"}
    weights, mask, about = load_model(out / "model.safetensors")
    assert mask is not None
    assert mask.density == summary["density"] <= summary["density_target"]
    assert all(not weights[name][~keep].any() for name, keep in mask.keep.items())
    assert about["model"] == {"name": "resnet8", "width": 4, "normalisation": "batch"}
    assert sum(x.numel() for x in weights.values()) > summary["parameters"]


def test_a_runs_own_configuration_gives_the_same_bits(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["run", str(SMOKE), f"out={first}", "seed=5", "method.density=0.1"]) == 0
    assert main(["run", str(first / "config.yaml"), f"out={second}"]) == 0
    a, b = (json.loads((folder / "summary.json").read_text()) for folder in (first, second))
    assert a["weights_sha256"] == b["weights_sha256"]
    assert (first / "config.yaml").read_text() == (second / "config.yaml").read_text()
    assert torch.get_num_threads() == 1


@pytest.mark.ray
def test_the_command_is_quiet_but_for_its_rounds_and_equals_the_inline_fleet(tmp_path: Path) -> None:
    """Real processes with a real W&B, one of them with a real Ray."""
    shas = set()
    for i, fleet in enumerate(("fleet={name: ray, actors: 2}", "fleet={name: inline}")):
        out = tmp_path / str(i)
        command = [sys.executable, "-m", "fedtiny", "run", str(SMOKE), fleet, f"out={out}", "tracking.wandb=offline"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        for chatter in ("ray", "Ray", "lightning", "Lightning", "wandb:", "Warning"):
            assert chatter not in done.stdout.replace(str(out), "")
        shas.add(json.loads((out / "summary.json").read_text())["weights_sha256"])
    assert len(shas) == 1


def test_all_that_is_wrong_is_told_at_once_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "config.yaml").write_text("seed: 0\n")
    wrong = ["rouds=3", "method.density=2", f"data={{name: image_folder, path: {tmp_path / 'nope'}}}", f"out={out}"]
    assert main(["run", str(SMOKE), *wrong]) == 2
    told = lines(capsys.readouterr().err)
    assert told == [
        f"config: out: {out} already holds a run; name another folder, or remove it",
        "config: method.density: input should be less than or equal to 1, got 2",
        "config: rouds: there is no such key; did you mean rounds?",
        "config: data: data.path must be a folder that holds train/CLASS and test/CLASS, "
        f"but there is no folder {tmp_path / 'nope' / 'train'}",
    ]
    assert sorted(path.name for path in out.iterdir()) == ["config.yaml"]


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("clients=100", "clients: 100 clients with at least 10 examples each need 1000, but 192 are left for them"),
        ("cohort=9", "cohort: must be at most clients (3), got 9"),
        ("method.density=0.0001", "method: density must keep at least one weight in each of the 8 prunable layers"),
        ("split.public=240", "clients: split.public + split.validation must leave examples for the clients"),
        ("split.public=0", "pretraining.epochs: must be 0 where the server holds fewer than 2 public examples"),
        ("data.mean=[0.5, 0.5]", "data.mean: must have 1 value or one a channel (1), got 2"),
        (
            "data={name: cifar10, root: /nowhere, download: false}",
            "data: Cifar10 is not in /nowhere and data.download is",
        ),
    ],
)
def test_what_does_not_fit_is_told_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str, line: str
) -> None:
    assert main(["run", str(SMOKE), wrong, f"out={tmp_path / 'out'}"]) == 2
    (told,) = lines(capsys.readouterr().err)
    assert told.startswith(f"config: {line}")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_or_cannot_be_made_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["run", str(SMOKE), f"out={tmp_path}"]) == 2
    assert "is not an empty folder; name another folder" in capsys.readouterr().err
    assert main(["run", str(SMOKE), f"out={tmp_path / 'file' / 'below'}"]) == 2
    assert "cannot be made (Not a directory); name another folder" in capsys.readouterr().err


def test_without_out_the_folder_is_named_after_the_run_and_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(SMOKE), "rounds=1", "name=mine"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mine-20")


def test_show_prints_a_configuration_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(SMOKE), "seed=9"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["seed"] == 9
    assert "# Root of every random stream." in printed


def test_methods_names_each_with_its_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    assert [line.split()[0] for line in lines(capsys.readouterr().out)] == NAMES


def test_a_client_that_fails_ends_the_run_with_exit_code_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedtiny.data.datasets import Synthetic
    from fedtiny.data.examples import Examples

    read = Synthetic.load

    def mislabelled(self: Synthetic) -> Examples:
        examples = read(self)
        examples.labels[examples.labels == 3] = 2
        examples.labels[-1] = 99
        return examples

    monkeypatch.setattr(Synthetic, "load", mislabelled)
    monkeypatch.setattr("numpy.bincount", lambda *_, **__: [0, 0, 0, 0])
    assert main(["run", str(SMOKE), f"out={tmp_path / 'out'}", "split.public=23"]) == 1
    told = lines(capsys.readouterr().err)
    assert told[0].startswith("the server raised IndexError: Target 99 is out of bounds. (tried 2 times)")
    assert told[1] == "Traceback (most recent call last):"
    assert told[-2].startswith("0 of 1 answered before the first round, fewer than the quorum of 1: the server raised")
    assert told[-1] == f"go on with: python -m fedtiny resume {tmp_path / 'out'}"


@pytest.mark.parametrize(
    ("fleet", "sent", "code"),
    [
        ("inline", signal.SIGINT, 130),
        ("inline", signal.SIGTERM, 143),
        pytest.param("ray", signal.SIGINT, 130, marks=pytest.mark.ray),
    ],
)
def test_ctrl_c_and_sigterm_end_with_one_line_and_no_traceback(
    tmp_path: Path, fleet: str, sent: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-u", "-m", "fedtiny", "run", str(SMOKE), f"fleet.name={fleet}", "rounds=2000"]
    process = subprocess.Popen(
        [*command, f"out={tmp_path / 'out'}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "3/2000" in line:
            break
    os.killpg(process.pid, sent)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert lines(told) == [f"interrupted; go on with: python -m fedtiny resume {tmp_path / 'out'}"]
    assert len((tmp_path / "out" / "rounds.jsonl").read_text().splitlines()) >= 3


def test_bench_step_tells_seconds_and_bytes_of_both_engines(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--model", "resnet8", "--width", "4", "--size", "8", "--batch", "8", "--seconds", "0.1"]
    assert main(["bench", "step", *small, "--density", "0.05", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["subject"]["density"] == 0.05
    for what in ("training", "inference"):
        assert told[what]["speedup"] == told[what]["dense_seconds"] / told[what]["sparse_seconds"]
        assert 0 < told[what]["sparse_bytes"] < told[what]["dense_bytes"]
    assert main(["bench", "step", *small]) == 0
    assert "memory beyond activations" in capsys.readouterr().out


def test_bench_layers_names_every_kind_of_layer(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--model", "mobilenetv2", "--width", "4", "--size", "8", "--batch", "4", "--seconds", "0.1"]
    assert main(["bench", "layers", *small, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    shapes = [layer["shape"] for layer in told["layers"]]
    assert "3->4, 3x3, 8x8" in shapes
    assert len(set(shapes)) == len(shapes)
    assert main(["bench", "layers", *small]) == 0
    assert "GFLOP/s" in capsys.readouterr().out


def test_bench_tells_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "step", "--density", "2", "--batch", "one"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "config: --density: Input should be less than or equal to 1 (got 2)"
    assert lines[1].startswith("config: --batch: Input should be a valid integer")
    assert main(["bench", "step", "--model", "resnet9"]) == 2
    assert "resnet9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.lr=1e30", "0 of 3 answered in round 1, fewer than the quorum of 2: client 0 was refused: "),
        ("pretraining.lr=1e30", "0 of 1 answered before the first round, fewer than the quorum of 1: the server was "),
    ],
)
def test_a_run_that_diverges_ends_with_what_to_do(
    tmp_path: Path, override: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(SMOKE), override, f"out={tmp_path / 'run'}"]) == 1
    first, line, _ = capsys.readouterr().err.splitlines()
    assert line.startswith(told)
    for said in (first, line):
        assert "it diverged; lower training.lr or pretraining.lr" in said


def test_runs_that_start_in_the_same_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    for _ in range(2):
        assert main(["run", str(SMOKE), "rounds=1", "engine=dense"]) == 0
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["smoke-20260101-000000", "smoke-20260101-000000-2"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["rounds=2", "method.adjust_every=3"], "note: the mask never moves: "),
        (["rounds=3", "method.stop_round=9"], "note: the last of 3 rounds still moves the mask"),
        (["rounds=3", "method.stop_round=2"], ""),
        (["rounds=2", "method.adjust_every=3", "method.fraction=0"], ""),
    ],
)
def test_a_schedule_that_does_nothing_is_told(
    overrides: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(SMOKE), *overrides, "engine=dense", f"out={tmp_path / 'run'}"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert len(notes) == bool(told)
    assert "".join(notes).startswith(told)


def test_an_override_may_be_longer_than_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(SMOKE), f"name={'x' * 5000}"]) == 0
    assert "x" * 5000 in capsys.readouterr().out


def test_a_preset_may_have_an_equals_sign_in_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset = tmp_path / "lr=0.1" / "config.yaml"
    preset.parent.mkdir()
    preset.write_text("rounds: 77\n")
    assert main(["show", str(preset), "clients=3"]) == 0
    shown = capsys.readouterr().out
    assert "rounds: 77" in shown
    assert "clients: 3" in shown
