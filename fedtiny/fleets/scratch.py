"""The folder of a local Ray's files, which goes with the process that made it, or at the latest with the next one."""

import os
import shutil
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from fedtiny.disk import sole
from fedtiny.fleets.family import end

__all__ = ["Scratch", "clear_dead"]

_PREFIX, _MARK = "fedtiny-", ".held"


class Scratch:
    """A folder that this process holds until it closes it, or ends, however it ends.

    Attributes:
        path: Where it is.
    """

    def __init__(self) -> None:
        """Makes it."""
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_place()))
        self._held = ExitStack()
        self._held.enter_context(sole(self.path))
        (self.path / _MARK).touch()  # only now: whoever finds the mark can tell whether the folder is held

    def close(self) -> None:
        """Removes it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._held.close()


def clear_dead() -> None:
    """Removes this user's folders whose processes are gone without closing them, and what is left of their Rays."""
    for folder in _place().glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or gone meanwhile
            if folder.is_symlink() or folder.stat().st_uid != os.getuid() or not (folder / _MARK).is_file():
                continue
            with sole(folder) as alone:
                if alone:
                    end(_theirs(folder), 0.1)
                    shutil.rmtree(folder, ignore_errors=True)


def _place() -> Path:
    # Sockets lie in it, and Linux takes no path of theirs beyond 107 letters, most of which are Ray's.
    return Path(tempfile.gettempdir() if len(tempfile.gettempdir()) <= 20 else "/tmp")


def _theirs(folder: Path) -> list[psutil.Process]:
    """Ray's processes that write to the folder: its agents stay a minute or two after the Ray that they ask for."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone meanwhile, or another user's
            if not "".join(process.cmdline()[:1]).startswith("ray::"):
                continue
            if any(Path(file.path).is_relative_to(folder) for file in process.open_files()):
                found.append(process)
    return found
