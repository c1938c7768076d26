"""What a person sees while a comparison goes on: a bar on a terminal, a line for each run that ends elsewhere."""

import time
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from fedtiny.compare.folder import Folder
from fedtiny.compare.grid import Cell

__all__ = ["Watched"]


class Watched:
    """The runs that are left, and how far they are: as many parts as they have rounds."""

    def __init__(self, folder: Folder, cells: Sequence[Cell], done: int) -> None:
        """Prepares to watch.

        Args:
            folder: Where the comparison lies.
            cells: The cells to make.
            done: Cells that were finished before.
        """
        self._folder, self._all, self._done, self._failed = folder, done + len(cells), done, 0
        self._rounds = {cell.name: cell.config.rounds for cell in cells}
        self._made = {name: folder.rounds(name) for name in self._rounds}
        self._before = sum(self._made.values())
        self._terminal = Console(highlight=False)
        self._live = self._terminal.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[eta]}"),
            console=self._terminal,
            transient=True,
            disable=not self._live,
        )
        self._task = self._bar.add_task("starting", total=sum(self._rounds.values()), eta="")
        self._began = time.monotonic()
        self._since: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def going(self, names: Collection[str]) -> None:
        """These cells are being made."""
        for name in names:
            self._since.setdefault(name, time.monotonic())
            self._made[name] = self._folder.rounds(name)
        if self._live:
            failed = f", [red]{self._failed} failed[/red]" if self._failed else ""
            what = f"{self._done} of {self._all} runs done, {len(names)} going on{failed}"
            self._bar.update(self._task, completed=sum(self._made.values()), description=what, eta=self._eta())

    def ended(self, name: str, failure: str, accuracy: float | None) -> None:
        """A cell is over."""
        seconds = time.monotonic() - self._since.pop(name, self._began)
        self._made[name] = self._rounds[name]
        self._failed += bool(failure)
        self._done += not failure
        at = f"{self._done + self._failed}/{self._all}"
        if failure:
            self._terminal.print(f"{at:>9} {escape(name)}: [red]failed: {escape(failure)}[/red]", soft_wrap=True)
        elif not self._live:
            told = "" if accuracy is None else f"{100 * accuracy:.2f} %, "
            eta = self._eta()
            self._terminal.print(
                f"{at:>9} {escape(name)}: {told}{seconds:.0f} s" + (f"; {eta}" if eta else ""), soft_wrap=True
            )

    def _eta(self) -> str:
        """From the rounds that were made since the start: a guess, since methods and densities take different times."""
        made = sum(self._made.values()) - self._before
        left = sum(self._rounds.values()) - sum(self._made.values())
        if made <= 0 or left <= 0:
            return ""
        seconds = int((time.monotonic() - self._began) / made * left)
        hours, rest = divmod(seconds, 3600)
        return (f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}") + " left"
