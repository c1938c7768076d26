"""Makes cells: side by side in a pool of processes, or one after the other on a fleet of their own."""

import traceback
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from fedtiny.compare.folder import free
from fedtiny.config.load import ConfigError, load
from fedtiny.fleets import Inline

if TYPE_CHECKING:
    from fedtiny.compare.grid import Cell
    from fedtiny.fleets.pool import Ended

__all__ = ["made", "make"]


def make(folder: str) -> None:
    """Makes the run of a cell's folder, or goes on with it."""
    from fedtiny.prepare import prepare
    from fedtiny.run import run
    from fedtiny.trackers import trackers

    path = Path(folder)
    free(path)
    config = load([path / "config.yaml"])
    run(prepare(config), path, trackers(config, path), resume=True)


def made(
    cells: "Sequence[Cell]", place: Callable[[str], Path], tick: Callable[[Collection[str]], None]
) -> "Generator[tuple[str, Ended], None, None]":
    """Makes all cells; yields the name of each as it ends, and how.

    Cells on the inline fleet are made as many at once as this machine has room for. Cells with actors of their own are
    made one after the other. What fails is tried once more.

    Args:
        cells: The cells, all on the same kind of fleet.
        place: Name of a cell -> its folder.
        tick: Is told now and then which cells are going on.

    Raises:
        ConfigError: Ray cannot start, or the cluster is not there.
    """
    from fedtiny.fleets.pool import pooled

    if not cells:
        return
    names = {str(place(cell.name)): cell.name for cell in cells}

    def told(folders: Collection[str]) -> None:
        tick([names[folder] for folder in folders])

    if all(isinstance(cell.config.fleet, Inline) for cell in cells):
        gpus = max(cell.config.fleet.gpus for cell in cells)
        try:
            with closing(pooled(make, list(names), tick=told, gpus=gpus)) as endings:
                for ended in endings:
                    yield names[ended.job], ended
        except ValueError as error:
            raise ConfigError([str(error)]) from error
        return
    try:
        ready = cells[0].config.fleet.booting()
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    with ready:
        for folder, name in names.items():
            told([folder])
            yield name, _tried(folder)


def _tried(folder: str, retries: int = 1) -> "Ended":
    from fedtiny.fleets.pool import Ended

    for tries in range(1, retries + 2):
        try:
            make(folder)
        except Exception as error:
            failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
            ended = Ended(folder, failure, traceback.format_exc(), tries)
        else:
            return Ended(folder, tries=tries)
    return ended
