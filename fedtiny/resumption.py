"""Where a run that was broken off goes on, if it may."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from fedtiny.config.changes import changes
from fedtiny.config.load import ConfigError
from fedtiny.config.schema import RunConfig
from fedtiny.server.checkpoint import Checkpoint, load_checkpoint
from fedtiny.track.record import RoundRecord
from fedtiny.track.sinks import read_records

__all__ = ["other_versions", "resumption", "versions"]

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
            depend on them; so may what rounds that were made do not depend on.

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
    odd = changes(found.settings, told, beside)
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
