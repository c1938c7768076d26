from dataclasses import replace
from pathlib import Path

import numpy as np

from fedtiny.table import Table
from fedtiny.track.pictures import density_heat_map
from fedtiny.track.record import RoundRecord, Start
from fedtiny.track.report import write_report

START = Start(
    rounds=2,
    clients=2,
    class_counts=((3, 1), (0, 4)),
    classes=("cat", "dog"),
    layers={"a.weight": 10, "b.weight": 20},
    parameters=40,
    prunable=30,
    engine="sparse in 2 of 2 layers",
)
FIRST = RoundRecord(
    round=0,
    seconds=1.0,
    clients=(0, 1),
    dropped={},
    refused=0,
    train_loss=1.5,
    test_loss=1.4,
    test_accuracy=0.5,
    validation_loss=1.3,
    validation_accuracy=0.6,
    density=0.1,
    density_all=0.3,
    layer_densities={"a.weight": 0.2, "b.weight": 0.05},
    exchanged={},
    upload_bytes=100,
    download_bytes=120,
    flops={"rigl": 1e6, "fedrts": 2e6},
    dense_flops=10.0,
    memory_bytes=1000,
    activation_bytes=5000,
    weights_sha256="0" * 64,
)
RECORDS = [FIRST, replace(FIRST, round=1, test_accuracy=0.75, exchanged={"a.weight": 2})]
TABLE = Table("Candidates", ("candidate", "loss", "density"), ((0, 2.0, 0.1), (1, 1.5, 0.09)), 1)
SUMMARY: dict[str, object] = {
    "name": "a <b>",
    "method": "fedtiny",
    "seed": 7,
    "rounds": 2,
    "clients": 2,
    "parameters": 40,
    "reference_parameters": 40,
    "prunable": 30,
    "density": 0.1,
    "density_all": 0.3,
    "test_accuracy": 0.75,
    "upload_bytes": 200,
    "download_bytes": 240,
    "selection_bytes": 20,
    "dense_upload_bytes": 800,
    "flops_per_round_max": {"rigl": 1e6, "fedrts": 2e6},
    "dense_flops_per_round_max": 1e7,
    "memory_bytes_max": 1000,
    "seconds": 3.0,
    "dropped": 0,
    "refused": 0,
    "simulated_seconds": None,
    "joules": None,
    "time": {"driver": {"start": 1.0, "wait": 1.5, "fold": 0.5}, "clients": {"train": 2.0, "idle": 2.0}},
    "engine": {"name": "sparse", "reason": "sparse in 2 of 2 layers", "sparse_layers": ["a.weight", "b.weight"]},
}


def write(path: Path, tables: list[Table], records: list[RoundRecord], **more: object) -> str:
    write_report(path, {"seed": 7}, START, tables, records, SUMMARY | more, [[3, 1], [0, 4]])
    return path.read_text(encoding="utf-8")


def test_the_page_tells_the_whole_story_and_loads_nothing(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html", [TABLE], RECORDS)
    for title in ("Accuracy and loss", "Candidates", "Density of each layer", "The mask moves, block by block"):
        assert f"<h2>{title}</h2>" in page
    for title in ("Who holds what", "Costs against a dense run", "Confusion matrix", "Configuration"):
        assert f"<h2>{title}</h2>" in page
    assert "chosen" in page
    assert "a &lt;b&gt;" in page
    assert "75.00 %" in page
    assert "25 %" in page  # uploaded bytes against dense
    assert "<script src" not in page
    assert "<link" not in page


def test_the_time_is_told_in_shares(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html", [], RECORDS)
    assert "<td>driver: wait</td><td>1.50</td><td>50.0 %</td>" in page
    assert "<td>clients: idle</td><td>2.00</td><td>50.0 %</td>" in page
    assert "Accuracy against simulated time" not in page


def test_simulated_time_and_dropped_clients_are_shown(tmp_path: Path) -> None:
    records = [replace(x, simulated_seconds=60.0, joules=2.0, late=(1,), surplus=()) for x in RECORDS]
    page = write(tmp_path / "report.html", [], records, simulated_seconds=150.0, joules=2500.0, dropped=3, refused=2)
    assert "<h2>Accuracy against simulated time</h2>" in page
    assert "<td>2.5 min</td>" in page
    assert "<td>2.5 kJ</td>" in page
    assert "<td>clients dropped</td><td>3</td><td>2 of them by a refused upload</td>" in page


def test_a_run_that_never_moved_its_mask_has_no_picture_of_it(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html", [], RECORDS[:1])
    assert "The mask moves" not in page
    assert "The mask did not move in this run" in page


def test_rounds_without_evaluation_and_without_validation_are_left_out(tmp_path: Path) -> None:
    blind = replace(FIRST, test_loss=None, test_accuracy=None, validation_loss=None, validation_accuracy=None)
    unchecked = replace(FIRST, round=1, validation_loss=None, validation_accuracy=None)
    page = write(tmp_path / "report.html", [], [blind, unchecked])
    assert '"name":"test"' in page.replace(" ", "")
    assert '"name":"validation"' not in page.replace(" ", "")


def test_the_heat_map_is_a_picture_with_a_row_a_layer() -> None:
    picture = np.asarray(density_heat_map(RECORDS))
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
