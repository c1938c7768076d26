"""Processes that a local Ray started, and their end."""

import time
from collections.abc import Sequence
from contextlib import suppress

import psutil

__all__ = ["end", "family"]


def family(marker: str) -> list[psutil.Process]:
    """Children of this process whose command line names `marker`, and all processes below them."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # gone meanwhile
            if any(marker in word for word in child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found


def end(processes: Sequence[psutil.Process], patience_s: float) -> None:
    """Returns once they are gone; those that are not after `patience_s` seconds are killed."""
    for process in _left(processes, patience_s):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _left(processes, patience_s)


def _left(processes: Sequence[psutil.Process], patience_s: float) -> list[psutil.Process]:
    limit = time.monotonic() + patience_s
    while (left := [process for process in processes if _lives(process)]) and time.monotonic() < limit:
        time.sleep(0.02)
    return left


def _lives(process: psutil.Process) -> bool:
    # One that has ended is kept until its parent has asked how, and a container's first process may never do so.
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
