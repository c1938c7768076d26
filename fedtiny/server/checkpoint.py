"""What a run needs to go on as if it had never stopped, on disk after every round.

One safetensors file a checkpoint: tensors by name, everything else as JSON in its metadata; no pickle. It is written
beside its place, flushed to the disk and moved there, so it is there whole or not at all; the one before it is kept.
"""

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedtiny.methods.base import ServerState
from fedtiny.payload.codec import Held
from fedtiny.payload.training import Training
from fedtiny.server.fingerprint import fingerprint
from fedtiny.server.ledger import Traffic
from fedtiny.sparse.mask import Mask

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

_KEPT = 2


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Where a run stands between two rounds.

    Attributes:
        state: The server's state.
        held: What each client still holds of earlier orders: downloads are counted against it.
        selection: What crossed the network before the first round.
        seconds: Wall-clock time so far.
        seconds_to_first_round: The part of it until the first round was over.
        pretrained_sha256: Fingerprint of the pretrained weights, which the first mask was chosen on.
    """

    state: ServerState
    held: Mapping[int, Held]
    selection: Traffic
    seconds: float
    seconds_to_first_round: float
    pretrained_sha256: str = ""


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes `folder`/ROUND.safetensors, and removes all but the last two.

    Raises:
        OSError: It cannot be written; the ones before are still there.
    """
    folder.mkdir(exist_ok=True)
    state = checkpoint.state
    tensors = {f"weights/{name}": tensor for name, tensor in state.weights.items()}
    tensors |= {f"memory/{name}": tensor for name, tensor in state.memory.items()}
    tensors |= _masked("mask", state.mask)
    unique = list({id(held): held for held in checkpoint.held.values()}.values())
    numbers = {id(held): i for i, held in enumerate(unique)}
    for i, held in enumerate(unique):
        tensors |= {f"held/{i}/weights/{name}": tensor for name, tensor in held.weights.items()}
        tensors |= _masked(f"held/{i}/mask", held.mask)
    about = {
        "round": state.round,
        "names": list(tensors),  # the format forgets their order
        "weights_sha256": fingerprint(state.weights, state.mask),
        "held": [None if x.training is None else x.training.model_dump(mode="json") for x in unique],
        "holders": {client: numbers[id(held)] for client, held in checkpoint.held.items()},
        "selection": [
            checkpoint.selection.upload_bytes,
            checkpoint.selection.download_bytes,
            checkpoint.selection.measuring_flops,
            checkpoint.selection.simulated_seconds,
            checkpoint.selection.joules,
        ],
        "seconds": checkpoint.seconds,
        "seconds_to_first_round": checkpoint.seconds_to_first_round,
        "pretrained_sha256": checkpoint.pretrained_sha256,
    }
    path = folder / f"{state.round:06d}.safetensors"
    scratch = path.with_suffix(".new")
    # Clones: the format refuses tensors that share memory, as masks of server and clients do.
    try:
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, scratch, {"fedtiny": json.dumps(about)})
        _flush(scratch)
    except (OSError, SafetensorError) as error:
        scratch.unlink(missing_ok=True)
        raise OSError(errno.EIO, f"{error}", str(path)) from error
    scratch.replace(path)
    _flush(folder)
    for old in sorted(folder.glob("*.safetensors"))[:-_KEPT]:
        old.unlink()


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The last checkpoint that is whole; None if there is none."""
    for path in sorted(folder.glob("*.safetensors"), reverse=True):
        try:
            return _read(path)
        except (OSError, SafetensorError, ValueError, KeyError):  # torn: the one before it will do
            continue
    return None


def _read(path: Path) -> Checkpoint:
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["fedtiny"])
        tensors = {name: file.get_tensor(name) for name in about["names"]}
    weights, mask = _under(tensors, "weights"), _mask(tensors, "mask")
    if fingerprint(weights, mask) != about["weights_sha256"]:
        raise ValueError(f"{path} holds other weights than it says")
    held = [
        Held(
            _under(tensors, f"held/{i}/weights"),
            _mask(tensors, f"held/{i}/mask"),
            None if training is None else Training.model_validate(training),
        )
        for i, training in enumerate(about["held"])
    ]
    up, down, flops, seconds, joules = about["selection"]
    measuring = {int(client): count for client, count in flops.items()}
    return Checkpoint(
        state=ServerState(about["round"], weights, mask, _under(tensors, "memory")),
        held={int(client): held[i] for client, i in about["holders"].items()},
        selection=Traffic(up, down, measuring, simulated_seconds=seconds, joules=joules),
        seconds=about["seconds"],
        seconds_to_first_round=about["seconds_to_first_round"],
        pretrained_sha256=about.get("pretrained_sha256", ""),  # older checkpoints do not tell
    )


def _masked(prefix: str, mask: Mask | None) -> dict[str, Tensor]:
    return {} if mask is None else {f"{prefix}/{name}": keep for name, keep in mask.keep.items()}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}/"): x for name, x in tensors.items() if name.startswith(f"{prefix}/")}


def _mask(tensors: Mapping[str, Tensor], prefix: str) -> Mask | None:
    keep = _under(tensors, prefix)
    return Mask(keep) if keep else None


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
