"""The `torch` format: a `torch.export` program of the dense-shaped network, for the rest of PyTorch's world."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedtiny.export.graph import Floats
from fedtiny.export.reason import reason

__all__ = ["load_torch", "write_torch"]


class _Deployed(nn.Module):
    """Takes pixels in [0, 1], as all exported networks do."""

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.module = module
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.module((image - self.mean) / self.std)
        return logits


def write_torch(
    module: nn.Module,
    path: Path,
    image: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    classes: Sequence[str],
) -> None:
    """Writes the program: (N, C, H, W) float32 pixels in [0, 1] -> (N, classes) logits, for any N.

    Args:
        module: The network; pruned weights are zeros in it.
        path: The `.pt2` file.
        image: (channels, height, width) of a picture.
        mean: One a channel, or one for all.
        std: Likewise.
        classes: Their names; kept as JSON in the extra file `classes.json`.
    """
    deployed = _Deployed(module, mean, std).eval()
    batch = {"image": {0: torch.export.Dim("n")}}
    program = torch.export.export(deployed, (torch.zeros(2, *image),), dynamic_shapes=batch)
    torch.export.save(program, path, extra_files={"classes.json": json.dumps(list(classes))})


def load_torch(path: Path) -> tuple[Callable[[Floats], Floats], tuple[int, int, int], tuple[str, ...]]:
    """The program as a function of pictures and logits, a picture's shape, and the classes' names.

    Raises:
        ValueError: It is no such program.
    """
    extra = {"classes.json": ""}
    logger = logging.getLogger("torch.export")
    before, logger.disabled = logger.disabled, True  # it logs a traceback of what is told here in a line
    try:
        program = torch.export.load(path, extra_files=extra)
        (name,) = program.graph_signature.user_inputs
        value = next(node.meta["val"] for node in program.graph.nodes if node.name == name)
        channels, height, width = map(int, value.shape[1:])
    except Exception as error:  # a broken archive can raise anything
        raise ValueError(f"torch.export cannot read it ({reason(error)})") from None
    finally:
        logger.disabled = before
    module = program.module()

    def logits(pictures: Floats) -> Floats:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(pictures)).numpy(), np.float32)

    return logits, (channels, height, width), tuple(json.loads(extra["classes.json"] or "[]"))
