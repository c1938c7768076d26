"""Which trial is next: those that were written down, in their order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

__all__ = ["Listed"]


class Listed(Searcher):
    """Hands out the trials that are left, so many at a time at most."""

    def __init__(self, folder: Path, names: Sequence[str], at_once: int, metric: str, mode: str) -> None:
        """Names the trials, and the figure that Tune is to find in what they tell."""
        super().__init__(metric=metric, mode=mode)
        self._folder, self._left, self._at_once = str(folder), list(names), at_once
        self._live: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """The next trial; None while there is no room for it."""
        if not self._left:
            return str(Searcher.FINISHED)
        if len(self._live) >= self._at_once:
            return None
        self._live.add(trial_id)
        return {"sweep": self._folder, "trial": self._left.pop(0)}

    def on_trial_complete(self, trial_id: str, result: object = None, error: bool = False) -> None:
        """Makes room."""
        self._live.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the sweep's folder says all."""

    def restore(self, checkpoint_path: str) -> None:
        """Likewise."""
