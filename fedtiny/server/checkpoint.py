"""What a run needs to go on as if it had never stopped, on disk after every round.

One safetensors file a checkpoint: tensors by number, everything else as JSON in its metadata; no pickle. Equal
masks and shared weights are there once, and a mask takes a bit a weight: what clients hold costs what is different in
it. The file is written beside its place, flushed to the disk and moved there, so it is there whole or not at all; the
one before it is kept.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedtiny.disk import replaced
from fedtiny.methods.base import ServerState
from fedtiny.payload.codec import Held
from fedtiny.payload.training import Training
from fedtiny.server.ledger import Traffic
from fedtiny.sparse.mask import Mask

__all__ = ["Checkpoint", "checkpoint_path", "last_round", "load_checkpoint", "save_checkpoint"]

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
        settings: The run's configuration.
        versions: Package -> version that it was made with.
        times: Who -> kind -> seconds so far: where the time went.
    """

    state: ServerState
    held: Mapping[int, Held]
    selection: Traffic
    seconds: float
    seconds_to_first_round: float
    pretrained_sha256: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes `folder`/ROUND.safetensors, and removes all but the last two.

    Raises:
        OSError: It cannot be written; the ones before are still there.
    """
    folder.mkdir(exist_ok=True)
    state, shelf = checkpoint.state, _Shelf()
    unique = list({id(held): held for held in checkpoint.held.values()}.values())
    numbers = {id(held): i for i, held in enumerate(unique)}
    about = {
        "round": state.round,
        "weights": shelf.put(state.weights),
        "mask": _masked(shelf, state.mask),
        "memory": shelf.put(state.memory),
        "held": [
            {
                "weights": shelf.put(held.weights),
                "mask": _masked(shelf, held.mask),
                "training": None if held.training is None else held.training.model_dump(mode="json"),
            }
            for held in unique
        ],
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
        "settings": checkpoint.settings,
        "versions": checkpoint.versions,
        "times": checkpoint.times,
        "groups": shelf.groups,
        "bits": shelf.bits,
        "digests": shelf.digests,
    }
    told = json.dumps(about)
    with replaced(checkpoint_path(folder, state.round)) as scratch:
        save_file(shelf.tensors, scratch, {"fedtiny": told, "sha256": hashlib.sha256(told.encode()).hexdigest()})
    for old in sorted(folder.glob("*.safetensors"))[:-_KEPT]:
        old.unlink()


def checkpoint_path(folder: Path, round: int) -> Path:
    """Where the checkpoint after so many rounds lies."""
    return folder / f"{round:06d}.safetensors"


def last_round(folder: Path) -> int:
    """Rounds after which the last checkpoint was written; 0 if there is none. It is not looked into."""
    return max((int(path.stem) for path in folder.glob("*.safetensors")), default=0)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The last checkpoint that is whole; None if there is none."""
    for path in sorted(folder.glob("*.safetensors"), reverse=True):
        try:
            return _read(path)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):  # torn: the one before it will do
            continue
    return None


def _read(path: Path) -> Checkpoint:
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
        about = json.loads(told["fedtiny"])
        if hashlib.sha256(told["fedtiny"].encode()).hexdigest() != told["sha256"]:
            raise ValueError(f"{path} says something else than was written")
        stored = [file.get_tensor(str(i)) for i in range(len(about["digests"]))]
    tensors = [_unpacked(x, about["bits"].get(str(i))) for i, x in enumerate(stored)]
    if [_digest(tensor) for tensor in tensors] != about["digests"]:
        raise ValueError(f"{path} holds other tensors than it says")
    # One object a group: what was shared is shared again.
    groups = [{name: tensors[i] for name, i in group.items()} for group in about["groups"]]
    masks = {i: Mask(groups[i]) for i in {about["mask"], *(x["mask"] for x in about["held"])} if i is not None}
    held = [
        Held(
            groups[x["weights"]],
            masks.get(x["mask"]),
            None if x["training"] is None else Training.model_validate(x["training"]),
        )
        for x in about["held"]
    ]
    up, down, flops, seconds, joules = about["selection"]
    measuring = {int(client): count for client, count in flops.items()}
    return Checkpoint(
        state=ServerState(about["round"], groups[about["weights"]], masks.get(about["mask"]), groups[about["memory"]]),
        held={int(client): held[i] for client, i in about["holders"].items()},
        selection=Traffic(up, down, measuring, simulated_seconds=seconds, joules=joules),
        seconds=about["seconds"],
        seconds_to_first_round=about["seconds_to_first_round"],
        pretrained_sha256=about["pretrained_sha256"],
        settings=about["settings"],
        versions=about["versions"],
        times=about["times"],
    )


class _Shelf:
    """Named tensors: each object once, and booleans of equal content once.

    Attributes:
        tensors: Number -> tensor as it is stored: booleans are packed.
        digests: Of the tensors' content, in the order of their numbers.
        bits: Number -> shape of what is packed.
        groups: Name -> number, for each group of different content.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.digests: list[str] = []
        self.bits: dict[str, list[int]] = {}
        self.groups: list[dict[str, int]] = []
        self._places: dict[tuple[tuple[str, int], ...], int] = {}
        self._seen: dict[int, int] = {}  # number by the tensor's id
        self._masks: dict[str, int] = {}  # number by digest

    def put(self, named: Mapping[str, Tensor]) -> int:
        """The number of the group; its names keep their order, which the format forgets."""
        group = {name: self._number(tensor) for name, tensor in named.items()}
        place = self._places.setdefault(tuple(group.items()), len(self.groups))
        if place == len(self.groups):
            self.groups.append(group)
        return place

    def _number(self, tensor: Tensor) -> int:
        if id(tensor) not in self._seen:
            self._seen[id(tensor)] = self._stored(tensor, _digest(tensor))
        return self._seen[id(tensor)]

    def _stored(self, tensor: Tensor, digest: str) -> int:
        number = len(self.digests)
        if tensor.dtype == torch.bool:
            if digest in self._masks:
                return self._masks[digest]
            self._masks[digest] = number
            self.bits[str(number)] = list(tensor.shape)
            self.tensors[str(number)] = torch.from_numpy(np.packbits(tensor.numpy()))
        else:  # a clone: the format refuses tensors that share memory, as views do
            self.tensors[str(number)] = tensor.clone(memory_format=torch.contiguous_format)
        self.digests.append(digest)
        return number


def _masked(shelf: _Shelf, mask: Mask | None) -> int | None:
    return None if mask is None else shelf.put(mask.keep)


def _unpacked(stored: Tensor, shape: list[int] | None) -> Tensor:
    if shape is None:
        return stored
    size = torch.Size(shape)
    return torch.from_numpy(np.unpackbits(stored.numpy(), count=size.numel()).astype(bool)).view(size)


def _digest(tensor: Tensor) -> str:
    about = f"{tensor.dtype}{list(tensor.shape)}".encode()
    return hashlib.sha256(about + tensor.contiguous().numpy().tobytes()).hexdigest()
