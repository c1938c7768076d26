"""`python -m fedtiny predict`: an exported network looks at one's own pictures."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedtiny.config.load import ConfigError
from fedtiny.deploy.artifact import opened
from fedtiny.deploy.pixels import pixels
from fedtiny.export.graph import Floats

__all__ = ["predict", "read_picture"]

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
        except (OSError, ValueError) as error:
            raise ConfigError([f"{path}: {error}"]) from None
        channels, height, width = artifact.image
        if channels not in _MODES:
            raise ConfigError([f"{path}: takes {channels} channels; pictures have 1 or 3"])
        read = []
        for picture in pictures:
            try:
                read.append(read_picture(picture, _MODES[channels], (width, height)))
            except Exception as error:  # Pillow's readers share no base: a broken or huge picture can raise anything
                problems.append(f"{picture}: cannot be read as a picture ({error})")
        if problems:
            raise ConfigError(problems)
        logits = artifact.logits(np.stack(read))
    names = artifact.classes or [f"class {n}" for n in range(logits.shape[1])]
    return [f"{picture}: {_said(row, names)}" for picture, row in zip(pictures, logits, strict=True)]


def read_picture(path: Path, mode: str, size: tuple[int, int]) -> Floats:
    """(C, H, W) float32 in [0, 1], of a file; its mode is L (grey) or RGB, its size (width, height)."""
    from PIL import Image, ImageOps

    with Image.open(path) as file:
        picture = ImageOps.exif_transpose(file)  # a camera that was held upright says so beside the pixels
        if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
            picture = Image.fromarray((np.asarray(picture).clip(0, 65535) / 257).round().astype(np.uint8))
        image = picture.convert(mode)
    if image.size != size:
        image = image.resize(size)
    return np.ascontiguousarray(np.atleast_3d(pixels(np.asarray(image))).transpose(2, 0, 1))


def _said(logits: Floats, names: Sequence[str]) -> str:
    odds = np.exp(logits - logits.max())
    shares = odds / odds.sum()
    best = np.argsort(-shares, kind="stable")[:_BEST]
    return ", ".join(f"{names[n]} {100 * shares[n]:.1f} %" for n in best)
