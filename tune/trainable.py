"""A trial as Ray Tune sees it, or a member of a population until its generation is over: one evaluated round a step."""

from pathlib import Path

from ray.tune import Trainable

from tune.folder import Folder
from tune.going import Going

__all__ = ["RunTrainable"]


class RunTrainable(Trainable):
    """The run of a trial's folder, in a process that makes one trial after the other."""

    def setup(self, config: dict[str, object]) -> None:
        """Begins the trial's run, or goes on with it."""
        self._folder = Folder(Path(str(config["sweep"])))
        self._name = str(config["trial"])
        self._until = config.get("until")
        self._going = Going(self._folder.trial(self._name))

    def step(self) -> dict[str, object]:
        """The figures after the next evaluated round, or at the end.

        Raises:
            RuntimeError: The run failed.
        """
        told = self._going.next()
        if told.failure:
            self._folder.note_failure(self._name, told.failure, told.traceback)
            raise RuntimeError(told.failure)
        paused = self._until is not None and told.figures.get("rounds") == self._until and not told.over
        if paused:  # its folder is for the others to go on from
            self._going.end()
        return {**told.figures, "done": told.over or paused}

    def reset_config(self, new_config: dict[str, object]) -> bool:
        """Takes up another trial in the same process."""
        self._going.end()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Ends the run where it stands."""
        self._going.end()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, object]:
        """Nothing: the run keeps its own."""
        return {}

    def load_checkpoint(self, checkpoint: object) -> None:
        """Nothing: the run goes on from its own."""
