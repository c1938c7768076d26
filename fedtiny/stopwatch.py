"""Where the time goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stopwatch"]


class Stopwatch:
    """Wall-clock seconds by what they went to. No second counts twice: an inner activity interrupts the outer one.

    Attributes:
        seconds: Activity -> its seconds so far.
    """

    def __init__(self) -> None:
        """Starts with no activity."""
        self.seconds: dict[str, float] = {}
        self._doing: list[str] = []
        self._since = 0.0

    @contextmanager
    def on(self, activity: str) -> Iterator[None]:
        """Counts the time of the context, but for what an inner `on` takes."""
        self._note()
        self._doing.append(activity)
        try:
            yield
        finally:
            self._note()
            self._doing.pop()

    def so_far(self) -> dict[str, float]:
        """The seconds of each activity up to now."""
        self._note()
        return dict(self.seconds)

    def _note(self) -> None:
        now = time.perf_counter()
        if self._doing:
            self.seconds[self._doing[-1]] = self.seconds.get(self._doing[-1], 0.0) + now - self._since
        self._since = now
