"""Where a run that was broken off goes on, if it may; and one that goes on from another."""

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from fedtiny.config.changes import changes
from fedtiny.config.load import ConfigError, save
from fedtiny.config.schema import RunConfig
from fedtiny.disk import replaced, write_whole
from fedtiny.server.checkpoint import Checkpoint, checkpoint_path, load_checkpoint
from fedtiny.track.record import RoundRecord
from fedtiny.track.sinks import read_records

__all__ = ["fork", "other_versions", "resumption", "versions"]

# Rounds that were made would have been the same with others of these.
_MAY_CHANGE = ("name", "quorum", "evaluate_every", "fleet", "tracking", "data.root")


def versions() -> dict[str, str]:
    """Of the packages whose numbers may differ from version to version."""
    return {name: version(name) for name in ("fedtiny", "torch")}


def other_versions(before: Mapping[str, str]) -> str:
    """A line that says which versions the rounds so far were made with, if these are others; empty otherwise."""
    now = versions()
    odd = [f"{name} {then} (now {now.get(name, 'none')})" for name, then in before.items() if now.get(name) != then]
    return f"the rounds so far were made with {', '.join(odd)}: the result may differ in its last bits" if odd else ""


def resumption(folder: Path, config: RunConfig) -> tuple[Checkpoint | None, list[RoundRecord]]:
    """The last checkpoint with the records of its rounds; none where not even one round is on disk.

    Args:
        folder: The run's folder.
        config: The configuration to go on with. `rounds` may be others than they were while the learning rate does not
            depend on them; so may what rounds that were made do not depend on, such as what changes `from_round` after
            them.

    Raises:
        ConfigError: What is in the folder cannot be gone on with.
    """
    lines = _lines(folder / "rounds.jsonl")
    anew = "remove the folder, or make the run anew with another out=DIR"
    found = load_checkpoint(folder / "checkpoints")
    if found is None:
        # One record without a checkpoint is what a first round leaves that ended while its checkpoint was written.
        if lines > 1 or list((folder / "checkpoints").glob("*.safetensors")):
            raise ConfigError(
                [f"{folder}: {lines} rounds were made, but no checkpoint of them is there and whole; {anew}"]
            )
        return None, []
    made = found.state.round
    beside = (*_MAY_CHANGE, "rounds") if config.training.lr_schedule == "constant" else _MAY_CHANGE
    told = config.model_dump(mode="json")
    odd = changes(_until(found.settings, made), _until(told, made), beside)
    if _on_gpus(found.settings) != _on_gpus(told):
        odd.append("fleet.gpus")
    if config.rounds < made and "rounds" not in odd:
        odd.append("rounds")
    if odd:
        raise ConfigError(
            [
                f"{folder}: config.yaml was changed since round {made} ({', '.join(odd)}); "
                f"change it back, or make a run of its own of it"
            ]
        )
    try:
        records = read_records(folder / "rounds.jsonl", made)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        records = []
    if [record.round for record in records] != list(range(made)):
        raise ConfigError([f"{folder}: rounds.jsonl does not tell of the {made} rounds that were made; {anew}"])
    return found, records


def fork(parent: Path, child: Path, config: RunConfig, made: int) -> None:
    """Puts into a folder a run that goes on from where another one stood; whatever run was there is lost.

    The folder holds the parent's checkpoint and records then, and can be gone on with as the check of `resumption` has
    it: up to there, `config` must be the parent's. To do it twice is to do it once.

    Args:
        parent: The other run's folder.
        child: The folder; it is made if need be.
        config: The run to go on with.
        made: The parent's rounds to begin with; their checkpoint must be there still.

    Raises:
        ConfigError: The two are not the same so far.
        OSError: Something cannot be read or written.
    """
    child.mkdir(parents=True, exist_ok=True)
    # First, since with it a run counts as finished.
    for name in ("summary.json", "report.html", "model.safetensors", "personal.safetensors"):
        (child / name).unlink(missing_ok=True)
    shutil.rmtree(child / "checkpoints", ignore_errors=True)
    shutil.rmtree(child / "wandb", ignore_errors=True)  # a W&B run that goes on would keep its own past
    (child / "checkpoints").mkdir()
    records = (parent / "rounds.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:made]
    write_whole(child / "rounds.jsonl", "".join(records))
    with replaced(checkpoint_path(child / "checkpoints", made)) as scratch:
        shutil.copyfile(checkpoint_path(parent / "checkpoints", made), scratch)
    save(child / "config.yaml", config)
    resumption(child, config)


def _until(settings: Mapping[str, object], made: int) -> dict[str, object]:
    """The settings of the rounds that were made; checkpoints from before there was `from_round` have none."""
    later = settings.get("from_round", {})
    assert isinstance(later, Mapping)
    return {**settings, "from_round": {start: change for start, change in later.items() if int(start) < made}}


def _on_gpus(settings: Mapping[str, object]) -> bool:
    """Whether clients train on GPUs, whose bits are others; checkpoints from before there was the choice have none."""
    fleet = settings["fleet"]
    assert isinstance(fleet, Mapping)
    return bool(fleet.get("gpus"))


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
