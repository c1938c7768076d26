"""A model on disk: its weights and its mask, in safetensors' format."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights

__all__ = ["load_model", "save_masks", "save_model"]

_PREFIX = "mask."


def save_model(path: Path, weights: Weights, mask: Mask | None, about: Mapping[str, object]) -> None:
    """Writes weights by name, masks as bool under `mask.NAME`, and `about` as JSON in the metadata."""
    keep = {} if mask is None else {_PREFIX + name: tensor for name, tensor in mask.keep.items()}
    save_file({**weights, **keep}, path, metadata={"fedtiny": json.dumps(about)})


def save_masks(path: Path, masks: Mapping[int, Mask | None]) -> None:
    """Writes the masks of clients' own models as bool under `CLIENT/NAME`; who keeps everything has none there."""
    # Clones: the format refuses tensors that share memory, as clients' equal masks do after a resumption.
    keep = {f"{client}/{name}": x.clone() for client, mask in masks.items() if mask for name, x in mask.keep.items()}
    save_file(keep, path, metadata={"fedtiny": json.dumps({"clients": sorted(masks)})})


def load_model(path: Path) -> tuple[Weights, Mask | None, dict[str, object]]:
    """Reads what `save_model` wrote: weights, mask (None if dense), and what was said about them."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
        about = json.loads(file.metadata()["fedtiny"])
    keep = {name.removeprefix(_PREFIX): x for name, x in tensors.items() if name.startswith(_PREFIX)}
    weights = {name: x for name, x in tensors.items() if not name.startswith(_PREFIX)}
    return weights, Mask(keep) if keep else None, about
