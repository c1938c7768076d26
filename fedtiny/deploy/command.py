"""`python -m fedtiny export`: a finished run's network as files, and what each of them reaches."""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fedtiny.bench.machine import machine
from fedtiny.config.load import ConfigError
from fedtiny.deploy.artifact import opened
from fedtiny.deploy.finished import Finished, finished
from fedtiny.deploy.formats import Format
from fedtiny.deploy.link import link
from fedtiny.deploy.measure import Logits, all_logits, latencies
from fedtiny.deploy.pixels import pixels
from fedtiny.deploy.remark import remark
from fedtiny.deploy.row import Row, remarks, table_of
from fedtiny.deploy.verdict import verdict
from fedtiny.deploy.written import Written, asked, written
from fedtiny.disk import write_whole
from fedtiny.export.c import cortex_m_size
from fedtiny.export.dead import without_dead
from fedtiny.export.graph import Conv, Floats, Graph, Linear
from fedtiny.export.values import Values
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.engine.kernels import EngineUnavailable, kernels
from fedtiny.sparse.engine.resident import Resident
from fedtiny.table import Table
from fedtiny.track.results import human_seconds

__all__ = ["export"]

_LONG = 5  # seconds of a test that is told of before


def export(
    folder: Path, formats: Sequence[Format], values: Sequence[Values] | None = None, pictures: int | None = None
) -> tuple[Table, list[str]]:
    """Writes RUN_DIR/export/, measures each file, and writes export.json; the run's page links them.

    Args:
        folder: The run's folder.
        formats: What to write.
        values: What weights are to be, where a format has a choice; None is float32, and what the run's budget is of.
        pictures: Test pictures to measure accuracy on, spread evenly over the test set; None is all.

    Returns:
        What was measured, and a line for the budget and for each file that there is something to say about.

    Raises:
        ConfigError: The run is none, or not finished, or a format cannot be written.
        OSError: Something cannot be written.
    """
    if values is not None:
        asked(formats, values)  # refused before data are loaded
    run = finished(folder)
    budget = run.config.budget
    wanted = asked(formats, values or ("float32", *([] if budget is None else [budget.values])))
    if run.personal:
        _tell(f"note: clients of {run.config.method.name} have masks of their own; this is the server's model")
    out = folder / "export"
    out.mkdir(exist_ok=True)
    whole = run.graph
    graph, made, problems = without_dead(whole), [], []
    for name, kind in wanted:
        try:
            made.append(written(run, graph, out, name, kind))
        except ValueError as error:
            problems.append(f"{name} {kind}: {error}")
    if problems:
        raise ConfigError(problems)
    rows = _measured(run, made, folder, pictures, smaller=_weights(graph) < _weights(whole))
    count = len(run.test(pictures)[1])
    table, said = table_of(rows, run.dense_bytes, count), [*verdict(budget, rows), *remarks(rows)]
    told = {
        "classes": run.examples.classes,
        "image": run.examples.shape,
        "dense_bytes": run.dense_bytes,
        "pictures": count,
        "machine": machine(),
        "rows": [row.told() for row in rows],
        "remarks": said,
    }
    write_whole(out / "export.json", json.dumps(told, indent=2) + "\n")
    link(folder / "report.html", table, said, [row.file for row in rows if row.file.startswith("export/")])
    return table, said


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _measured(run: Finished, made: Sequence[Written], folder: Path, pictures: int | None, smaller: bool) -> list[Row]:
    """A row for PyTorch, one for the engine, and one for each file; `smaller` says that dead channels are gone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            return _rows(run, made, folder, pictures, smaller, Path(scratch))
    finally:
        torch.set_num_threads(before)


def _rows(
    run: Finished, made: Sequence[Written], folder: Path, pictures: int | None, smaller: bool, scratch: Path
) -> list[Row]:
    images, labels = run.test(pictures)
    networks: dict[str, Logits] = {"PyTorch, dense": _scaled(run.module, run)}
    rows = [Row("PyTorch, dense", "model.safetensors", run.dense_bytes)]
    reason = ""
    try:
        networks["our engine"] = _engine(run)
    except EngineUnavailable as error:
        reason = f"not measured: {error}"
    rows.append(Row("our engine", remark=reason))
    for file in made:
        name = f"{file.format} {file.values}"
        row = Row(name, str(file.path.relative_to(folder)), file.path.stat().st_size)
        try:
            if file.program is not None:
                row = replace(row, arena_bytes=file.program.arena_bytes)
                if (sizes := cortex_m_size(file.program)) is not None:
                    row = replace(row, flash_bytes=sizes.flash_bytes, ram_bytes=sizes.ram_bytes)
            networks[name] = opened(file.path, scratch).logits
        except ValueError as error:
            row = replace(row, remark=f"not measured: {error}")
        rows.append(row)
    seconds = latencies(networks, pixels(images[:1]))
    reference = None
    for i, row in enumerate(rows):
        if row.name in networks:
            if (about := len(labels) * seconds[row.name]) > _LONG:
                _tell(f"testing {row.name} on {len(labels):,} pictures, about {human_seconds(about)}")
            found = all_logits(networks[row.name], images)
            reference = found if reference is None else reference  # dense PyTorch is the first
            accuracy, difference = (found.argmax(1) == labels).mean(), np.abs(found - reference).max()
            rows[i] = replace(row, accuracy=float(accuracy), difference=float(difference), seconds=seconds[row.name])
    return [replace(row, remark=row.remark or remark(row, rows[0], run.mask is not None, smaller)) for row in rows]


def _scaled(module: torch.nn.Module, run: Finished) -> Logits:
    mean, std = (torch.tensor(x).view(-1, 1, 1) for x in (run.config.data.mean, run.config.data.std))

    def logits(pictures: Floats) -> Floats:
        with torch.inference_mode():
            return np.asarray(module((torch.from_numpy(pictures) - mean) / std).numpy())

    return logits


def _engine(run: Finished) -> Logits:
    """The network on the sparse engine, with the layers dense that the run had dense."""
    if run.mask is None:
        raise EngineUnavailable("nothing is pruned")
    kernels(torch.float32)
    engine = Engine(name="sparse", dense_above=run.config.engine.dense_above)
    return _scaled(Resident(run.module, engine).holding(run.weights, run.mask), run)


def _weights(graph: Graph) -> int:
    return sum(x.operation.weight.size for x in graph.nodes if isinstance(x.operation, Conv | Linear))
