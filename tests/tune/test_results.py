"""What is told of trials that differ in their rounds, on the way and at the end."""

import csv
from pathlib import Path

import pytest

from fedtiny.config.load import load
from tests.conftest import SMOKE
from tests.tune.fabricated import ACCURACY, trial
from tune.folder import Folder
from tune.request import configured
from tune.results import table
from tune.space import Sample
from tune.sweep import Sweep
from tune.watch import Watch


def test_rounds_asked_and_rounds_made_stand_in_columns_of_their_own() -> None:
    told = table([trial("a", 0.5, 10.0, rounds=20), trial("b", 0.6, 20.0, rounds=10)])
    assert told.splitlines()[0].startswith("trial,status,rounds_asked,rounds,seconds,validation_accuracy,")
    rows = list(csv.DictReader(told.splitlines()))
    assert [(row["rounds_asked"], row["rounds"]) for row in rows] == [("20", "10"), ("10", "10")]


def test_a_trial_on_its_way_is_shown_with_its_own_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Live:
        def __init__(self) -> None:
            self.config = {"trial": "0000"}

    base, folder = load([SMOKE]), Folder(tmp_path)
    samples: list[tuple[str, Sample]] = [("0000", {"rounds": 7}), ("0001", {"seed": 1})]
    for name, sample in samples:
        folder.add(name, sample, configured(base, name, sample))
    monkeypatch.setenv("FORCE_COLOR", "1")  # taken for a terminal
    with Watch(folder, Sweep.model_validate({"space": {"rounds": [7]}, "objectives": [ACCURACY]}), 4, 2) as watch:
        watch.on_trial_start(0, [], Live())  # type: ignore[arg-type]
        watch.on_trial_result(0, [], Live(), {"rounds": 3})  # type: ignore[arg-type]
    assert "3/7" in capsys.readouterr().out
