"""SIGTERM, as Slurm, Kubernetes and `kill` send it: a command ends as at Ctrl-C, with an exit code of its own."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "handler_kept", "interruptible"]


class Interrupted:
    """What a command was interrupted by, if it was.

    Attributes:
        code: The exit code that says so: 130 for Ctrl-C, 143 for SIGTERM.
    """

    code = 128 + signal.SIGINT


@contextmanager
def interruptible() -> Iterator[Interrupted]:
    """Meanwhile the first SIGTERM raises KeyboardInterrupt in the main thread; others change nothing.

    In any other thread nothing is done: Python tells the main thread alone of signals.
    """
    by = Interrupted()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if by.code != 128 + number:  # whoever closes things is not to be interrupted again
            by.code = 128 + number
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield by
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield by
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def handler_kept() -> Iterator[None]:
    """Puts back at the end what handles SIGTERM now: libraries put something of their own in its place."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
