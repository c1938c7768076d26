"""`python -m fedtiny compare`, from the words on the command line to the page."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table as Lines

from fedtiny.compare.cells import made
from fedtiny.compare.folder import Folder
from fedtiny.compare.grid import Cell, Grid, checked, with_engines
from fedtiny.compare.page import markdown, page, tex, verdict
from fedtiny.compare.progress import Watched
from fedtiny.compare.protocol import findings
from fedtiny.compare.request import requested
from fedtiny.compare.results import Results
from fedtiny.compare.row import read_row, with_dense_memory
from fedtiny.compare.tables import Sheet, brief_sheet, csv_of
from fedtiny.config.load import ConfigError
from fedtiny.config.out import named, unclaimed, unfit

__all__ = ["compare", "go_on"]


def compare(presets: Sequence[Path], overrides: Sequence[str]) -> int:
    """Makes a comparison, or what is left of it; its exit code: 0, or 1 if a run failed.

    Raises:
        ConfigError: Something is wrong with what is asked for; all of it at once, before anything starts.
        KeyboardInterrupt: Ctrl-C; says how to go on.
    """
    out, settings = named(overrides)
    problems: list[str] = []
    ready: tuple[Grid, list[Cell]] | None = None
    try:
        ready = checked(requested(presets, settings), _tell)
    except ConfigError as error:
        problems += error.problems
    folder = Folder(out or next(unclaimed(f"{ready[0].name if ready else 'run'}-compare")))
    mark = {"config.yaml": "holds a single run; name another folder, or remove it"}
    # One that is begun is gone on with.
    odd = [] if folder.begun else unfit(folder.path, mark, beside=(".lock", "cells"))
    problems += odd or (folder.problems(ready[1]) if ready else [])
    if problems or ready is None:
        raise ConfigError(problems)
    grid, cells = ready
    with folder.claimed():
        cells = with_engines(cells, folder.engines([cell.name for cell in cells]), _tell)
        folder.write(grid, cells)
        command = shlex.join(["python", "-m", "fedtiny", "compare", *map(str, presets), *overrides])
        (folder.path / "command.txt").write_text(f"{command}\n", encoding="utf-8")
        return _made(folder, grid, cells)


def go_on(path: Path) -> int:
    """Makes what is left of a comparison, failed runs again, and writes its page; its exit code.

    Raises:
        ConfigError: It cannot be read, or is going on elsewhere.
        KeyboardInterrupt: Ctrl-C; says how to go on.
    """
    folder = Folder(path)
    with folder.claimed():
        return _made(folder, *folder.read())


def _tell(text: str) -> None:
    print(text, flush=True)


def _made(folder: Folder, grid: Grid, cells: Sequence[Cell]) -> int:
    left = [cell for cell in cells if not folder.finished(cell.name)]
    done = len(cells) - len(left)
    again = sum(bool(folder.failure(cell.name)) for cell in left)
    begun = sum(folder.rounds(cell.name) > 0 for cell in left)
    _tell(
        f"{grid.name}: {len(cells)} runs of {len(grid.labels)} methods"
        + (f", {done} of them finished before" if done else "")
        + (f", {begun} to go on with" if begun else "")
        + (f", {again} that failed tried again" if again else "")
    )
    try:
        with Watched(folder, left, done) as watched, closing(made(left, folder.cell, watched.going)) as endings:
            for name, ended in endings:
                folder.note_failure(name, ended.failure, ended.traceback)
                row = read_row("", None, 0, folder.cell(name), folder.path, ended.failure)
                watched.ended(name, ended.failure, row.figures.get("test_accuracy"))
    except KeyboardInterrupt:
        finished = sum(folder.finished(cell.name) for cell in cells)
        way_on = f"go on with: python -m fedtiny resume {folder.path}"
        raise KeyboardInterrupt(f"; {finished} of {len(cells)} runs are finished; {way_on}") from None
    return _written(folder, grid)


def _written(folder: Folder, grid: Grid) -> int:
    rows = []
    for label, density, seed in grid.places:
        name = Cell.named(label, density, seed)
        rows.append(read_row(label, density, seed, folder.cell(name), folder.path, folder.failure(name)))
    results = Results(grid, with_dense_memory(rows))
    found = findings(results.rows)
    command = (folder.path / "command.txt").read_text(encoding="utf-8").strip()
    for suffix, text in (
        ("csv", csv_of(results)),
        ("md", markdown(results, found, command)),
        ("tex", tex(results)),
        ("html", page(results, found, command)),
    ):
        (folder.path / f"comparison.{suffix}").write_text(text, encoding="utf-8")
    if len(results.failed) < len(rows):
        Console(highlight=False).print(_lines(brief_sheet(results)))
    _tell(verdict(found))
    _tell("Written:")
    for suffix in ("csv", "html", "md", "tex"):
        _tell(f"  {folder.path / f'comparison.{suffix}'}")
    if not results.failed:
        return 0
    print(f"{len(results.failed)} of {len(rows)} runs failed:", file=sys.stderr)
    for row in results.failed:
        print(f"  {folder.path / row.folder}: {row.failure}", file=sys.stderr)
    print(f"try them again with: python -m fedtiny resume {folder.path}", file=sys.stderr)
    return 1


def _lines(sheet: Sheet) -> Lines:
    shown = Lines(title=sheet.title, title_justify="left")
    for i, column in enumerate(sheet.columns):
        shown.add_column(column.over or column.name, justify="right" if i else "left")
    for i, row in enumerate(sheet.rows):
        shown.add_row(*(f"[bold]{x}[/bold]" if (i, k) in sheet.bold else x for k, x in enumerate(row)))
    return shown
