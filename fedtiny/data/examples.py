"""Labelled pictures in memory, or memory-mapped from the cache."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedtiny.cache import cache_folder

__all__ = ["Examples", "cached"]


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """A data set: what may be learnt from, and what only tests.

    Attributes:
        images: (N, C, H, W) uint8 training images.
        labels: (N,) int64 class of each, in [0, len(classes)).
        test_images: (T, C, H, W) uint8.
        test_labels: (T,) int64.
        classes: Name of each class.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width


def cached(key: str, read: Callable[[], Examples]) -> Examples:
    """The memory-mapped arrays kept under `key`, read once and written atomically if they are not there.

    Two processes that read at the same time both succeed; the first to finish is kept.
    """
    folder = cache_folder() / "arrays" / key
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            examples = read()
            np.save(scratch / "images.npy", examples.images)
            np.save(scratch / "labels.npy", examples.labels)
            np.save(scratch / "test_images.npy", examples.test_images)
            np.save(scratch / "test_labels.npy", examples.test_labels)
            (scratch / "classes.txt").write_text("\n".join(examples.classes), encoding="utf-8")
        except BaseException:
            shutil.rmtree(scratch)
            raise
        try:
            scratch.rename(folder)
        except OSError:  # Another process was first: its arrays are the same.
            shutil.rmtree(scratch)
    return Examples(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        labels=np.load(folder / "labels.npy"),
        test_images=np.load(folder / "test_images.npy", mmap_mode="r"),
        test_labels=np.load(folder / "test_labels.npy"),
        classes=tuple((folder / "classes.txt").read_text(encoding="utf-8").split("\n")),
    )
