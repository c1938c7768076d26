"""A trial as Ray Tune sees it, or a member of a population until its generation is over: one evaluated round a step."""

from pathlib import Path

from ray.tune import Trainable
from ray.tune.experiment import Trial

from tune.folder import Folder
from tune.going import Going

__all__ = ["RunTrainable", "name_of"]


def name_of(trial: Trial) -> str:
    """What the sweep's folder calls Tune's trial."""
    return str(trial.config["trial"])


class RunTrainable(Trainable):
    """The run of a trial's folder, in a process that makes one trial after the other."""

    def setup(self, config: dict[str, object]) -> None:
        """Names the trial.

        Its run begins with the first step: Tune sets trials up in processes that it does not need in the end, since
        another has become free, while the trial goes on there, or is over.
        """
        self._folder = Folder(Path(str(config["sweep"])))
        self._name = str(config["trial"])
        self._until = config.get("until")
        self._going: Going | None = None

    def step(self) -> dict[str, object]:
        """The figures after the next evaluated round, or at the end.

        Raises:
            RuntimeError: The run failed.
        """
        if self._going is None:
            self._going = Going(self._folder.trial(self._name))
        told = self._going.next()
        if told.failure:
            self._folder.note_failure(self._name, told.failure, told.traceback)
            raise RuntimeError(told.failure)
        paused = self._until is not None and told.figures.get("rounds") == self._until and not told.over
        if paused:  # its folder is for the others to go on from
            self.cleanup()
            self._folder.forget_failure(self._name)  # of an earlier try
        return {**told.figures, "done": told.over or paused}

    def reset_config(self, new_config: dict[str, object]) -> bool:
        """Takes up another trial in the same process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Ends the run where it stands."""
        if self._going is not None and not self._going.end():
            self._folder.note_unended(self._name)

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, object]:
        """Nothing: the run keeps its own."""
        return {}

    def load_checkpoint(self, checkpoint: object) -> None:
        """Nothing: the run goes on from its own."""
