"""A sweep's folder after its process ended at a bad moment."""

from pathlib import Path

import yaml

from fedtiny.config.load import load
from tests.conftest import SMOKE
from tune.folder import Folder
from tune.request import configured


def add(folder: Folder, name: str, rate: float) -> None:
    folder.add(name, {"training.lr": rate}, configured(load([SMOKE]), name, {"training.lr": rate}))


def test_a_torn_line_takes_none_of_those_after_it_along(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    add(folder, "0000", 0.1)
    with (tmp_path / "samples.jsonl").open("a") as file:
        file.write('{"trial": "0001", "sam')
    add(folder, "0001", 0.2)
    add(folder, "0002", 0.3)
    told = {"0000": {"training.lr": 0.1}, "0001": {"training.lr": 0.2}, "0002": {"training.lr": 0.3}}
    assert folder.samples() == told


def test_a_trial_is_what_its_line_says_and_not_what_was_thought_of_before_it_had_one(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    add(folder, "0000", 0.1)
    (tmp_path / "samples.jsonl").unlink()  # as if the process had ended between the two files
    add(folder, "0000", 0.2)
    assert yaml.safe_load((folder.trial("0000") / "config.yaml").read_text())["training"]["lr"] == 0.2


def test_figures_that_are_not_finite_are_none(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    add(folder, "0000", 0.1)
    folder.note_progress("0000", {"rounds": 1.0, "test_loss": float("nan"), "bytes": 5.0})
    assert folder.one("0000").figures == {"rounds": 1.0, "bytes": 5.0}
