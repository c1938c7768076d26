"""TensorBoard's and CSV's files, read back by TensorBoard's and Python's own readers."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedtiny.track.loggers import Csv, TensorBoard
from tests.track.test_report import RECORDS, START, SUMMARY, TABLE

CONFIG = {"seed": 1, "method": {"name": "ours", "density": 0.01, "scope": None}}
ROUNDS = [replace(RECORDS[0], round=i, test_accuracy=0.5 + i / 100 if i % 2 == 0 else None) for i in range(5)]


def tell(sink: Csv | TensorBoard, before: int, until: int) -> None:
    """Rounds up to `until`, of which `before` were made earlier; the run ends with the fifth."""
    sink.start(START)
    sink.resumed(ROUNDS[:before])
    sink.found([TABLE])
    for record in ROUNDS[before:until]:
        sink.round(record)
    if until == len(ROUNDS):
        sink.finish(SUMMARY)
    sink.close()
    assert not sink.broken


def test_csv_has_a_line_a_round_however_often_the_run_was_broken_off(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tell(Csv(tmp_path, CONFIG), 0, 4)
    tell(Csv(tmp_path, CONFIG), 3, 5)
    assert capfd.readouterr() == ("", "")
    with (tmp_path / "csv" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row["test_accuracy"] for row in rows] == ["0.5", "", "0.52", "", "0.54"]
    assert [row["so_far/bytes"] for row in rows] == ["220", "440", "660", "880", "1100"]


def test_tensorboard_has_each_round_once_and_settings_beside_the_result(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tell(TensorBoard(tmp_path, CONFIG), 0, 4)
    tell(TensorBoard(tmp_path, CONFIG), 3, 5)
    assert capfd.readouterr() == ("", "")
    told = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(x.step, x.value) for x in told.Scalars("so_far/bytes")] == [(i, 220 * i) for i in range(1, 6)]
    assert [x.step for x in told.Scalars("test_accuracy")] == [1, 3, 5]
    assert [x.value for x in told.Scalars("final/test_accuracy")] == [0.75]
    assert [x.step for x in told.Images("layer_densities")] == [5]
    plugins = told.PluginTagToContent("hparams")
    assert "_hparams_/session_start_info" in plugins
    assert b"method/density" in plugins["_hparams_/session_start_info"]
    assert any("candidates" in tag for tag in told.Tags()["tensors"])
    assert "density: 0.01" in (tmp_path / "tensorboard" / "hparams.yaml").read_text()


def test_what_cannot_be_written_ends_the_log_with_one_line_and_not_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "csv").write_text("not a folder")
    sink = Csv(tmp_path, CONFIG)
    sink.start(START)
    sink.round(ROUNDS[0])
    sink.close()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("CSV: tracking stops here, the run goes on (")
