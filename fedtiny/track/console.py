"""What a person sees while a run goes on: one line a round, and how long it will take."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console as Terminal
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table as Grid

from fedtiny.table import Table
from fedtiny.track.record import RoundRecord, Start
from fedtiny.track.results import human_bytes, result_table
from fedtiny.track.sinks import Sink
from fedtiny.track.times import time_table

__all__ = ["Console", "show_table"]


class Console(Sink):
    """Live on a terminal, plain lines elsewhere."""

    def __init__(self, folder: Path) -> None:
        """Prepares to print; `folder` is the run's, named at the end."""
        self._terminal = Terminal(highlight=False)
        self._folder = folder
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[eta]}"),
            console=self._terminal,
            transient=True,
            disable=not self._terminal.is_terminal,
        )
        self._task = self._bar.add_task("starting", eta="")
        self._rounds, self._before, self._began = 0, 0, 0.0

    def start(self, start: Start) -> None:
        self._rounds = start.rounds
        self._terminal.print(f"[dim]engine: {escape(start.engine)}[/dim]", soft_wrap=True)
        self._bar.update(self._task, total=start.rounds, description="starting clients, choosing a mask")
        self._bar.start()

    def found(self, tables: Sequence[Table]) -> None:
        for table in tables:
            self._terminal.print(_grid(_excerpt(table)))
        self._terminal.print(
            f"[dim]{'round':>9} {'train':>7} {'test':>9} {'density':>9} {'up':>9} {'down':>9} {'ETA':>7}[/dim]"
        )
        self._began = time.monotonic()

    def resumed(self, records: Sequence[RoundRecord]) -> None:
        self._before = len(records)
        if records:
            self._terminal.print(f"goes on after round {len(records)}")

    def remark(self, text: str) -> None:
        Terminal(stderr=True, highlight=False).print(f"note: {escape(text)}", soft_wrap=True)

    def trouble(self, text: str) -> None:
        Terminal(stderr=True, highlight=False).print(escape(text), soft_wrap=True)

    def round(self, record: RoundRecord) -> None:
        done = record.round + 1
        left = (time.monotonic() - self._began) / (done - self._before) * (self._rounds - done)
        eta = f"{int(left) // 60}:{int(left) % 60:02d}"
        moved = ", ".join(f"{name.removesuffix('.weight')} {n}" for name, n in record.exchanged.items())
        accuracy = "" if record.test_accuracy is None else f"{100 * record.test_accuracy:.2f} %"
        self._terminal.print(
            f"{f'{done}/{self._rounds}':>9} {record.train_loss:7.4f} {accuracy:>9} {100 * record.density:7.3f} % "
            f"{human_bytes(record.upload_bytes):>9} {human_bytes(record.download_bytes):>9} {eta:>7}"
            + (f"  [cyan]moved {moved}[/cyan]" if moved else "")
            + (f"  [red]{len(record.dropped)} of {len(record.clients)} dropped[/red]" if record.dropped else "")
            + (f"  [yellow]{record.retried} tried again[/yellow]" if record.retried else ""),
            soft_wrap=True,
        )
        self._bar.update(self._task, completed=done, description=f"round {done}", eta=f"{eta} left")

    def finish(self, summary: Mapping[str, object]) -> None:
        self._bar.stop()
        self._terminal.print(_grid(result_table(summary)))
        self._terminal.print(_shares(time_table(summary)), soft_wrap=True)
        self._terminal.print("Written:")
        for path in sorted(self._folder.iterdir()):
            self._terminal.print(f"  {path}", soft_wrap=True)

    def close(self) -> None:
        self._bar.stop()


def show_table(table: Table) -> None:
    """Prints a table whole: where there is no terminal, as wide as it is."""
    terminal = Terminal(highlight=False)
    Terminal(highlight=False, width=terminal.width if terminal.is_terminal else 240).print(_grid(table))


def _shares(table: Table) -> str:
    """A table's first and third column in a line."""
    return f"[dim]{table.title}: " + ", ".join(f"{row[0]} {row[2]}" for row in table.rows) + "[/dim]"


def _excerpt(table: Table, rows: int = 12, columns: int = 3) -> Table:
    """What fits a terminal: the chosen row and the first others; the whole table is in the report."""
    shown = [i for i in range(len(table.rows)) if i < rows or i == table.chosen]
    left_out = len(table.rows) - len(shown)
    return Table(
        title=table.title + (f" (and {left_out} more)" if left_out else ""),
        columns=table.columns[:columns],
        rows=tuple(table.rows[i][:columns] for i in shown),
        chosen=shown.index(table.chosen) if table.chosen is not None else None,
    )


def _grid(table: Table) -> Grid:
    grid = Grid(title=table.title, title_justify="left")
    for i, column in enumerate(table.columns):
        grid.add_column(column, justify="left" if i == 0 else "right")
    for i, row in enumerate(table.rows):
        cells = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row]
        chosen = i == table.chosen
        grid.add_row(*cells[:-1], cells[-1] + (" <-" if chosen else ""), style="bold green" if chosen else None)
    return grid
