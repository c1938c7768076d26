"""Pictures of bytes, as exported networks take them."""

import numpy as np

from fedtiny.export.graph import Floats

__all__ = ["pixels"]


def pixels(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Floats:
    """uint8 in 0..255 as float32 in [0, 1], of any shape."""
    return np.asarray(images).astype(np.float32) / np.float32(255)
