"""A comparison on disk: its grid, and a plain run's folder for each cell."""

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from fedtiny.compare.grid import Cell, Grid
from fedtiny.config.changes import changes
from fedtiny.config.load import ConfigError, load, save
from fedtiny.config.schema import RunConfig
from fedtiny.disk import sole, write_whole
from fedtiny.sparse.engine.choose import Engine

__all__ = ["Folder", "free"]

_GRID, _FAILURE = "comparison.yaml", "failure.txt"
# How a run is computed, and who is told of it, makes it no other run.
_BESIDE = ("engine", "fleet", "tracking")


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a comparison lies.

    Attributes:
        path: Its folder.
    """

    path: Path

    @property
    def begun(self) -> bool:
        """Whether it holds a comparison."""
        return (self.path / _GRID).is_file()

    def cell(self, name: str) -> Path:
        """A cell's folder."""
        return self.path / "cells" / name

    def finished(self, name: str) -> bool:
        """Whether a cell's run is over, and well."""
        return (self.cell(name) / "summary.json").is_file()

    def failure(self, name: str) -> str:
        """Why a cell failed the last time it was tried, in a line; empty if it did not."""
        path = self.cell(name) / _FAILURE
        return path.read_text(encoding="utf-8").splitlines()[0] if path.is_file() else ""

    def note_failure(self, name: str, failure: str, traceback: str) -> None:
        """Keeps why a cell failed; nothing, if it did not."""
        path = self.cell(name) / _FAILURE
        if failure:
            path.write_text(f"{failure}\n{traceback}", encoding="utf-8")
        else:
            path.unlink(missing_ok=True)

    def rounds(self, name: str) -> int:
        """Rounds that a cell has made so far."""
        try:
            return (self.cell(name) / "rounds.jsonl").read_bytes().count(b"\n")
        except OSError:
            return 0

    def engines(self, names: Sequence[str]) -> dict[str, Engine]:
        """The engine of each cell that was written down before: it is not chosen anew."""
        found = {}
        for name in names:
            config = self._config(name)
            if config is not None and config.engine.name != "auto":
                found[name] = config.engine
        return found

    def problems(self, cells: Sequence[Cell]) -> list[str]:
        """Where a cell's folder holds another run than the cell's."""
        found = []
        for cell in cells:
            before = self._config(cell.name)
            if before is None:
                continue
            odd = _differences(before, cell.config)
            asked = cell.config.engine.name
            if asked != "auto" and before.engine.name != asked and cell.density is not None:
                odd.append("engine")
            if odd:
                found.append(
                    f"out: {self.cell(cell.name)} holds another run (it differs in {', '.join(odd)}); "
                    f"name another folder, or remove it"
                )
        return found

    def write(self, grid: Grid, cells: Sequence[Cell]) -> None:
        """Writes the grid, and the configuration of each cell that is not finished.

        Raises:
            OSError: It cannot be written.
        """
        told = {
            "name": grid.name,
            "labels": list(grid.labels),
            "references": list(grid.references),
            "densities": list(grid.densities),
            "seeds": list(grid.seeds),
            "reference": grid.reference,
        }
        for cell in cells:
            path = self.cell(cell.name)
            path.mkdir(parents=True, exist_ok=True)
            if not self.finished(cell.name):
                save(path / "config.yaml", cell.config)
        write_whole(self.path / _GRID, yaml.safe_dump(told, sort_keys=False))

    def read(self) -> tuple[Grid, list[Cell]]:
        """The comparison as it was written.

        Raises:
            ConfigError: It cannot be read.
        """
        try:
            told = yaml.safe_load((self.path / _GRID).read_text(encoding="utf-8"))
            grid = Grid(
                name=told["name"],
                labels=tuple(told["labels"]),
                references=tuple(told["references"]),
                densities=tuple(told["densities"]),
                seeds=tuple(told["seeds"]),
                reference=told["reference"],
            )
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise ConfigError([f"{self.path / _GRID}: cannot be read ({' '.join(str(error).split())})"]) from None
        cells = []
        for label, density, seed in grid.places:
            name = Cell.named(label, density, seed)
            cells.append(Cell(label, density, seed, load([self.cell(name) / "config.yaml"])))
        return grid, cells

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other processes from going on with this comparison meanwhile.

        Raises:
            ConfigError: Another process does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError([f"{self.path}: this comparison is going on in another process"]) from None
            yield

    def _config(self, name: str) -> RunConfig | None:
        path = self.cell(name) / "config.yaml"
        return load([path]) if path.is_file() and path.stat().st_size else None


def free(folder: Path, patience_s: float = 30.0) -> None:
    """Waits until no other process makes the run of this folder: one that was killed may take a moment to go."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with sole(folder) as alone:
            if alone:
                return
        time.sleep(0.2)


def _differences(before: RunConfig, after: RunConfig) -> list[str]:
    """Dotted keys whose values differ, but for what makes a run no other run."""
    return changes(before.model_dump(mode="json"), after.model_dump(mode="json"), _BESIDE)
