"""A run that Tune tells to end."""

from pathlib import Path

import pytest

import tune.going
from fedtiny.config.load import load
from tests.conftest import SMOKE
from tune.folder import Folder
from tune.request import configured
from tune.trainable import RunTrainable


def test_a_run_that_does_not_end_in_time_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    folder.add("0000", {}, configured(load([SMOKE], ["engine=dense", "pretraining.epochs=0"]), "0000", {}))
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path / "tune"))
    made = RunTrainable({"sweep": str(tmp_path), "trial": "0000"})
    assert made.step()["rounds"] == 1
    monkeypatch.setattr(tune.going, "END_S", 0.0)  # it takes longer to close its files
    made.cleanup()
    assert folder.unended() == ["0000"]
    folder.forget_unended()
    monkeypatch.setattr(tune.going, "END_S", 60.0)
    made.cleanup()
    assert folder.unended() == []
