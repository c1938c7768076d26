"""The workspace shows what a run's tracker really logs."""

import re
from pathlib import Path
from typing import Any

import pytest

from fedtiny.config.load import load
from fedtiny.prepare import prepare
from fedtiny.run import run
from fedtiny.track.scalars import flat
from fedtiny.trackers import trackers
from tests.conftest import SMOKE
from tests.track.offline import history, summary, the_run
from tune.__main__ import main
from tune.workspace import KNOBS, outline, workspace


def shown(told: Any) -> tuple[set[str], set[str], set[str]]:
    """What a saved view names: figures of rounds, of summaries, and settings."""
    rounds: set[str] = set()
    summaries: set[str] = set()
    settings: set[str] = set()
    for section in told["spec"]["section"]["panelBankConfig"]["sections"]:
        for panel in section["panels"]:
            config = panel["config"]
            rounds |= set(config.get("metrics") or ()) | set(config.get("mediaKeys") or ())
            both = [config.get("xAxis"), config.get("yAxis"), *(x["accessor"] for x in config.get("columns") or ())]
            for name in filter(None, both):
                kind, _, rest = name.rpartition(":")
                if kind == "summary":
                    summaries.add(rest)
                elif kind == "config":
                    settings.add(rest.replace(".value", ""))
                else:
                    rounds.add(name)
            summaries |= {config["targetKey"]} if config.get("targetKey") else set()
    return rounds, summaries, settings


def test_every_panel_names_what_a_run_logs(tmp_path: Path) -> None:
    config = load([SMOKE], ["tracking.wandb=offline", "rounds=2", "engine=dense"])
    run(prepare(config), tmp_path, trackers(config, tmp_path))
    messages = the_run(tmp_path)
    logged = {key for step in history(messages) for key in step}

    view = workspace("fedtiny", "somebody")
    told = view._to_model().model_dump(by_alias=True)
    rounds, summaries, settings = shown(told)
    assert {"round", "so_far/bytes", "so_far/flops_rigl", "validation_accuracy", "layer_densities"} <= rounds
    assert rounds <= logged
    assert {"upload_bytes", "flops_per_round_max/rigl", "validation_accuracy"} <= summaries
    assert summaries <= set(summary(messages))
    assert settings == set(KNOBS)
    assert settings <= set(flat(config.model_dump(mode="json"), "."))
    text = str(told)
    (pattern,) = re.findall(r"'metricRegex': '([^']+)'", text)
    assert any(re.fullmatch(pattern, key) for key in logged)
    assert "candidates" in text
    assert "candidates" in logged


def test_the_view_can_be_looked_at_without_a_login(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    assert main(["workspace", "fedtiny", "--dry-run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == list(outline(workspace("fedtiny", "you")))
    assert "  ParallelCoordinatesPlot: Settings and what they came to" in printed
    assert main(["workspace", "fedtiny", "--entity", "somebody"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("workspace: nobody is logged in to W&B")
