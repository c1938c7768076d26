"""A finished run leaves the lab: files, figures measured on them, links, predictions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedtiny.__main__ import main
from fedtiny.deploy.finished import finished
from fedtiny.deploy.link import link
from fedtiny.deploy.remark import remark
from fedtiny.deploy.row import Row, table_of
from fedtiny.export.packed import unpack
from fedtiny.table import Table
from tests.conftest import SMOKE, Runner

needs_c = pytest.mark.skipif(not shutil.which("gcc"), reason="needs a C compiler")


@pytest.fixture
def finished_run(make_run: Runner, tmp_path: Path) -> Path:
    make_run("rounds=2")
    return tmp_path / "run"


@needs_c
def test_a_run_is_exported_in_all_formats_measured_linked_and_asked(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(finished_run), "--values", "float32", "float16", "int8"]) == 0
    printed = capsys.readouterr().out
    told = json.loads((finished_run / "export" / "export.json").read_text())
    summary = json.loads((finished_run / "summary.json").read_text())
    rows = {row["name"]: row for row in told["rows"]}
    kinds = ["packed float32", "packed float16", "packed int8", "onnx float32", "c float32", "c int8", "torch float32"]
    assert list(rows) == ["PyTorch, dense", "our engine", *kinds]
    assert told["pictures"] == 60
    page = (finished_run / "report.html").read_text()
    for name in kinds:
        row = rows[name]
        assert name in printed
        path = finished_run / row["file"]
        assert path.stat().st_size == row["bytes"]
        assert f"<a href='{row['file']}'>" in page
        assert row["seconds"] > 0
        if "float32" in name:
            assert row["difference"] < 1e-4
            assert row["accuracy"] == pytest.approx(summary["test_accuracy"], abs=1e-9)
    assert rows["c float32"]["arena_bytes"] > rows["c int8"]["arena_bytes"] > 0
    assert rows["packed int8"]["bytes"] < rows["packed float16"]["bytes"] < rows["packed float32"]["bytes"]
    assert rows["packed float32"]["bytes"] < told["dense_bytes"] / 5
    assert "no gain here" in rows["onnx float32"]["remark"]
    assert "onnx float32: no gain here: ONNX stores and multiplies zeros" in printed

    pictures = []
    for n, mode in enumerate(("L", "RGB")):
        pictures.append(str(tmp_path / f"{n}.png"))
        pixels = np.random.default_rng(n).integers(0, 255, (20, 12), np.uint8)
        Image.fromarray(pixels).convert(mode).save(pictures[-1])
    said = {}
    for name in kinds:
        assert main(["predict", str(finished_run / rows[name]["file"]), *pictures]) == 0
        said[name] = capsys.readouterr().out.splitlines()
        assert [line.split(": ")[0] for line in said[name]] == pictures
        assert all("class " in line and "%" in line for line in said[name])
    assert len({tuple(said[name]) for name in kinds if "float32" in name}) == 1

    # Once more, one format: the page has the new table alone.
    assert main(["export", str(finished_run), "--format", "packed", "--pictures", "7"]) == 0
    page = (finished_run / "report.html").read_text()
    assert page.count("The exported network") == 1
    assert "model.onnx" not in page
    assert "accuracy (7)" in page


@needs_c
@pytest.mark.slow
@pytest.mark.parametrize("density", ["0.05", "0.01"])
def test_the_quickstart_loses_less_than_a_point_in_int8(density: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    preset = str(SMOKE.with_name("quickstart.yaml"))
    assert main(["run", preset, f"method.density={density}", f"out={run}", "fleet.name=inline"]) == 0
    assert main(["export", str(run), "--format", "packed", "c", "--values", "float32", "int8"]) == 0
    rows = json.loads((run / "export" / "export.json").read_text())["rows"]
    accuracy = {row["name"]: row["accuracy"] for row in rows}
    for name in ("packed int8", "c int8"):
        assert accuracy[name] > accuracy["PyTorch, dense"] - 0.01


def test_what_cannot_be_exported_is_refused_in_a_line(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        assert main(list(words)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "holds no run" in refused("export", str(tmp_path / "nothing"))
    assert "onnx holds float32, got int8" in refused(
        "export", str(finished_run), "--format", "onnx", "packed", "--values", "int8"
    )
    (finished_run / "model.safetensors").write_bytes(b"nothing")
    assert "make the run again" in refused("export", str(finished_run))
    (finished_run / "summary.json").unlink()
    assert "python -m fedtiny resume" in refused("export", str(finished_run))
    assert not (finished_run / "export").exists()


def test_what_cannot_be_asked_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, rule in (
        ("a.txt", "must end in .packed"),
        ("a.packed", "there is no such file"),
        ("b.packed", "CRC-32"),
        ("b.onnx", "onnxruntime cannot read it"),
        ("b.pt2", "torch.export cannot read it"),
        ("b.c", "b.h must lie beside it"),
    ):
        path = tmp_path / name
        if name.startswith("b"):
            path.write_bytes(b"nothing")
        assert main(["predict", str(path), "x.png"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert rule in line


def test_a_picture_that_is_none_is_named(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(finished_run), "--format", "packed"]) == 0
    packed = finished_run / "export" / "model.packed"
    assert unpack(packed.read_bytes())[0].image == (1, 8, 8)
    (tmp_path / "x.png").write_bytes(b"nothing")
    capsys.readouterr()
    assert main(["predict", str(packed), str(tmp_path / "x.png"), str(tmp_path / "y.png")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [("x.png" in line, "y.png" in line) for line in lines] == [(True, False), (False, True)]


def test_a_row_of_the_table_by_hand() -> None:
    row = Row("c int8", "c/f.c", 5000, 0.91234, 0.0123, 0.00123, 2048, 9000, 3000)
    table = table_of([row], 20000, 1797)
    assert table.columns[3] == "accuracy (1,797)"
    assert table.rows == (("c int8", "5 kB", "25 %", "91.23 %", "0.012", "1.23", "2.05 kB", "9 kB, 3 kB"),)
    assert table_of([row], 100, 1797).rows[0][2] == "5,000 %"


def test_remarks_say_where_there_is_no_gain() -> None:
    dense = Row("PyTorch, dense", seconds=1.0)
    assert remark(dense, dense, True, True) == ""
    assert "zeros" in remark(Row("onnx float32", seconds=0.1), dense, True, False)
    assert "dead channels are gone" in remark(Row("onnx float32", seconds=0.1), dense, True, True)
    assert "no gain in time here" in remark(Row("our engine", seconds=1.1), dense, True, True)
    assert remark(Row("our engine", seconds=0.9), dense, True, True) == ""
    small, large = (Row("c int8", flash_bytes=x, ram_bytes=y) for x, y in ((10_000, 60_000), (10_000, 10**9)))
    assert remark(small, dense, True, True).endswith(
        "fits half of cortex-m4, cortex-m7, esp32-s3, raspberry-pi-zero, phone"
    )
    assert remark(large, dense, True, True).endswith("fits half of no device of docs/budget.md")
    assert "nothing is pruned" in remark(Row("c float32", seconds=0.9), dense, False, False)
    torch = Row("torch float32", seconds=1.0)
    assert ["zeros" in remark(torch, dense, pruned, False) for pruned in (True, False)] == [True, False]


def test_a_run_without_a_page_or_with_an_old_one_is_linked_all_the_same(tmp_path: Path) -> None:
    page, table = tmp_path / "report.html", Table("The exported network", ("form",), (("onnx",),))
    link(page, table, [], ["export/model.onnx"])
    assert not page.exists()
    page.write_text("<html><h1>x</h1></html>")
    for _ in range(2):
        link(page, table, ["a < b"], ["export/model.onnx"])
    text = page.read_text()
    assert text.count("export/model.onnx'") == 1
    assert text.count("<li>a &lt; b</li>") == 1
    assert text.endswith("</html>")


def test_fewer_pictures_are_spread_over_the_test_set(finished_run: Path) -> None:
    run = finished(finished_run)
    images, labels = run.test(4)
    assert (labels == run.examples.test_labels[[0, 15, 30, 45]]).all()
    assert (images == run.examples.test_images[[0, 15, 30, 45]]).all()
    assert len(run.test(1000)[1]) == len(run.test()[1]) == 60
