"""A network's file in any format, as a function of pictures."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedtiny.deploy.formats import SUFFIXES
from fedtiny.export.c import CProgram, compiled
from fedtiny.export.graph import Floats
from fedtiny.export.onnx import onnx_classes, onnx_session, onnx_shape
from fedtiny.export.packed import unpack
from fedtiny.export.quick import quick
from fedtiny.export.torch import load_torch

__all__ = ["Artifact", "opened"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A network that was read back from its file.

    Attributes:
        logits: (N, C, H, W) float32 pixels in [0, 1] -> (N, classes) float32.
        image: (channels, height, width) of a picture.
        classes: Their names; none where the file does not say.
    """

    logits: Callable[[Floats], Floats]
    image: tuple[int, ...]
    classes: tuple[str, ...]


def opened(path: Path, scratch: Path) -> Artifact:
    """Reads a file of any format; its name says which.

    Args:
        path: The file.
        scratch: Where a C program is compiled.

    Raises:
        ValueError: It is of no format, is not there, is broken, gives no logits of pictures, or no compiler is there.
    """
    formats = {suffix: name for name, suffix in SUFFIXES.items()}
    if path.suffix not in formats:
        raise ValueError(f"an exported network must end in {', '.join(formats)}")
    if not path.is_file():
        raise ValueError("there is no such file")
    match formats[path.suffix]:
        case "packed":
            graph, classes = unpack(path.read_bytes())
            return Artifact(quick(graph), graph.image, classes)
        case "onnx":
            return _tried(Artifact(onnx_session(path), onnx_shape(path), onnx_classes(path)))
        case "torch":
            return _tried(Artifact(*load_torch(path)))
        case _:
            program = _program(path)
            return Artifact(compiled(program, scratch), program.image, _told(path, program.classes))


def _tried(artifact: Artifact) -> Artifact:
    """Itself, if it gives logits of two pictures: files of these formats may come from elsewhere, and be anything."""
    rule = "it must take `image`, (N, C, H, W), and give `logits`, (N, classes), for any N, as an exported network does"
    if len(artifact.image) != 3 or not all(artifact.image):
        raise ValueError(rule)
    try:
        shape = artifact.logits(np.zeros((2, *artifact.image), np.float32)).shape
    except Exception as error:  # what runs inside may raise anything
        raise ValueError(rule) from error
    if len(shape) != 2 or shape[0] != 2 or (artifact.classes and shape[1] != len(artifact.classes)):
        raise ValueError(rule)
    return artifact


def _program(path: Path) -> CProgram:
    """A C program, from what its header says."""
    header = path.with_suffix(".h")
    text = header.read_text(encoding="utf-8") if header.is_file() else ""
    numbers = dict(re.findall(rf"#define {re.escape(path.stem.upper())}_([A-Z]+) (\d+)$", text, re.MULTILINE))
    try:
        image = (int(numbers["CHANNELS"]), int(numbers["HEIGHT"]), int(numbers["WIDTH"]))
        classes = int(numbers["CLASSES"])
    except KeyError:
        raise ValueError(f"its header {header.name} must lie beside it and say what it takes") from None
    return CProgram(path, header, path.stem, "int8" if "int8" in text else "float32", image, classes, 0)


def _told(path: Path, count: int) -> tuple[str, ...]:
    """The classes' names of a C program, from the `export.json` that lies above it."""
    try:
        told = json.loads((path.parent.parent / "export.json").read_text(encoding="utf-8"))["classes"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return tuple(map(str, told)) if len(told) == count else ()
