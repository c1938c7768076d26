"""`python -m fedtiny predict`: an exported network looks at one's own pictures."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedtiny.config.load import ConfigError
from fedtiny.deploy.artifact import opened
from fedtiny.export.graph import Floats

__all__ = ["predict"]

_MODES = {1: "L", 3: "RGB"}
_BEST = 3


def predict(path: Path, pictures: Sequence[Path]) -> list[str]:
    """A line for each picture: its most likely classes, with their probabilities.

    Args:
        path: The exported network: .packed, .onnx, .pt2 or .c.
        pictures: Files of pictures; they are resized to what the network takes, and to grey where it takes that.

    Raises:
        ConfigError: The network or a picture cannot be read; all of it at once.
    """
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        try:
            artifact = opened(path, Path(scratch))
        except ValueError as error:
            raise ConfigError([f"{path}: {error}"]) from None
        channels, height, width = artifact.image
        if channels not in _MODES:
            raise ConfigError([f"{path}: takes {channels} channels; pictures have 1 or 3"])
        read = []
        for picture in pictures:
            try:
                read.append(_pixels(picture, _MODES[channels], (width, height)))
            except (OSError, ValueError) as error:
                problems.append(f"{picture}: cannot be read as a picture ({error})")
        if problems:
            raise ConfigError(problems)
        logits = artifact.logits(np.stack(read))
    names = artifact.classes or [f"class {n}" for n in range(logits.shape[1])]
    return [f"{picture}: {_said(row, names)}" for picture, row in zip(pictures, logits, strict=True)]


def _pixels(path: Path, mode: str, size: tuple[int, int]) -> Floats:
    """(C, H, W) in [0, 1]."""
    from PIL import Image

    with Image.open(path) as picture:
        image = picture.convert(mode)
    if image.size != size:
        image = image.resize(size)
    pixels = np.asarray(image, np.float32) / np.float32(255)
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))


def _said(logits: Floats, names: Sequence[str]) -> str:
    odds = np.exp(logits - logits.max())
    shares = odds / odds.sum()
    best = np.argsort(-shares, kind="stable")[:_BEST]
    return ", ".join(f"{names[n]} {100 * shares[n]:.1f} %" for n in best)
