"""A run that is broken off and goes on leaves one whole log with each tracker."""

import csv
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedtiny.config.load import load
from fedtiny.prepare import prepare
from fedtiny.run import run
from fedtiny.track.record import RoundRecord
from fedtiny.track.sinks import Sink
from fedtiny.trackers import trackers
from tests.conftest import SMOKE
from tests.track.offline import rounds, summary, the_run


class Impatient(Sink):
    """Ends the run after its second round, before it is on disk."""

    def round(self, record: RoundRecord) -> None:
        if record.round == 1:
            raise KeyboardInterrupt


def test_what_is_not_asked_for_is_not_there(tmp_path: Path) -> None:
    assert trackers(load([SMOKE]), tmp_path) == []
    assert not (tmp_path / "wandb").exists()


def test_a_run_that_goes_on_has_every_round_once_in_all_logs(tmp_path: Path) -> None:
    asked = ["tracking={wandb: offline, tensorboard: true, csv: true, group: sweep}", "rounds=3", "engine=dense"]
    config = load([SMOKE], asked)
    with pytest.raises(KeyboardInterrupt):
        run(prepare(config), tmp_path, [*trackers(config, tmp_path), Impatient()])
    result = run(prepare(config), tmp_path, trackers(config, tmp_path), resume=True)

    accuracies = [x.test_accuracy for x in result.records]
    bytes_up = [x.upload_bytes for x in result.records]
    messages = the_run(tmp_path)
    steps = rounds(messages)
    assert [x["round"] for x in steps] == [0, 1, 2]
    assert [x["test_accuracy"] for x in steps] == accuracies
    assert [x["upload_bytes"] for x in steps] == bytes_up
    figures = summary(messages)
    assert figures["test_accuracy"] == result.summary["test_accuracy"]
    assert figures["upload_bytes"] == result.summary["upload_bytes"]
    told = next(x.run for x in messages if x.WhichOneof("record_type") == "run")
    assert (told.run_group, told.job_type) == ("sweep", "fedtiny")
    assert list(told.tags) == ["fedtiny", "synthetic", "resnet8", "density 0.05"]

    with (tmp_path / "csv" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["test_accuracy"]) for row in rows] == accuracies
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(x.step, x.value) for x in board.Scalars("upload_bytes")] == list(enumerate(bytes_up, start=1))
