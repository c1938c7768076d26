"""What an offline W&B run holds, read with W&B's own messages."""

import json
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

__all__ = ["history", "rounds", "summary", "the_run"]


def the_run(folder: Path, patience_s: float = 30.0) -> list[Any]:
    """The messages of the only offline run in a run's folder, once it has ended.

    W&B's own process writes them, and may be a moment behind: the last of them is waited for.
    """
    (offline,) = (folder / "wandb").glob("offline-run-*")
    (log,) = offline.glob("run-*.wandb")
    until = time.monotonic() + patience_s
    while True:
        messages = list(_messages(log.read_bytes()))
        if messages and messages[-1].WhichOneof("record_type") == "exit":
            return messages
        assert time.monotonic() < until, f"{log} does not end"
        time.sleep(0.05)


def _messages(log: bytes) -> Iterator[Any]:
    """The messages of a .wandb file: 7 bytes, then LevelDB's log of protobuf records."""
    whole, position = b"", 7
    while position + 7 <= len(log):
        left = 32768 - position % 32768
        if left < 7:  # a block never ends in a part of a header
            position += left
            continue
        length, kind = struct.unpack_from("<HB", log, position + 4)
        if position + 7 + length > len(log):
            return  # it is still being written
        whole += log[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield vars(wandb_internal_pb2)["Record"].FromString(whole)  # it has no types
            whole = b""


def _told(items: Any) -> dict[str, Any]:
    """Name -> value; of a table or a picture, its parts."""
    found: dict[str, Any] = {}
    for item in items:
        if item.key:
            found[item.key] = json.loads(item.value_json)
        else:
            name, *part = item.nested_key
            if part:
                found.setdefault(name, {})["/".join(part)] = json.loads(item.value_json)
            else:
                found[name] = json.loads(item.value_json)
    return found


def history(messages: list[Any]) -> list[Mapping[str, Any]]:
    """What was logged, step by step; W&B puts a round, its x axis, beside everything."""
    return [_told(x.history.item) for x in messages if x.WhichOneof("record_type") == "history"]


def rounds(messages: list[Any]) -> list[Mapping[str, Any]]:
    """The steps that are rounds."""
    return [step for step in history(messages) if "train_loss" in step]


def summary(messages: list[Any]) -> dict[str, Any]:
    """The run's summary, as far as it was set."""
    found: dict[str, Any] = {}
    for message in messages:
        found |= _told(message.summary.update)
    return found
