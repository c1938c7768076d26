"""What a command line asks for: a run that can be made, and a folder of its own."""

from collections.abc import Sequence
from pathlib import Path

from fedtiny.config.load import ConfigError, gather, validate
from fedtiny.config.out import named, unclaimed, unfit
from fedtiny.config.schema import RunConfig
from fedtiny.prepare import prepare
from fedtiny.sparse.engine.choose import Engine

__all__ = ["asked", "claimed"]


def asked(presets: Sequence[Path], overrides: Sequence[str]) -> tuple[RunConfig, Path | None]:
    """The run, and the folder that `out=DIR` names, if any.

    Args:
        presets: Files, later ones on top.
        overrides: `key=value`, on top of them; `out=DIR` among them.

    Raises:
        ConfigError: Something is wrong with the run or the folder: all of it, of both.
    """
    folder, settings = named(overrides)
    mark = {"config.yaml": "already holds a run; name another folder, or remove it"}
    problems = unfit(folder, mark) if folder else []
    config = None
    try:
        config = validate(gather(presets, settings))
    except ConfigError as error:
        problems += error.problems
        config = error.rest
    if problems and config is not None:
        try:  # With something wrong already, what is slow to measure can wait.
            prepare(config.model_copy(update={"engine": Engine(name="dense")}), lambda text: None)
        except ConfigError as error:
            problems += error.problems
    if problems or config is None:
        raise ConfigError(problems)
    return config, folder


def claimed(folder: Path | None, name: str) -> Path:
    """Makes the run's folder, which no other run gets; the folder.

    Args:
        folder: What was asked for; None is runs/NAME-TIME.
        name: What the run is called.

    Raises:
        ConfigError: It cannot be made, or holds a run.
    """
    for path in [folder] if folder else unclaimed(name):
        try:
            path.mkdir(parents=True, exist_ok=folder is not None)
        except FileExistsError:
            if folder is None:
                continue
            raise ConfigError([f"out: {path} is not a folder; name another"]) from None
        except OSError as error:
            raise ConfigError([f"out: {path} cannot be made ({error.strerror}); name another folder"]) from error
        try:
            (path / "config.yaml").touch(exist_ok=False)
        except FileExistsError:
            raise ConfigError([f"out: {path} already holds a run; name another folder, or remove it"]) from None
        return path
    raise ConfigError([f"out: no name is left for {name} in runs; name a folder with out=DIR"])
