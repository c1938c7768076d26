"""The data sets that a configuration can name, each read by the library that knows it best."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedtiny import seeds
from fedtiny.cache import cache_folder
from fedtiny.data.examples import Examples, cached
from fedtiny.value import Value

__all__ = ["AnyData", "Cifar10", "Cifar100", "Digits", "ImageFolder", "Svhn", "Synthetic"]

Triple = tuple[float, float, float]


class Images(Value):
    """What every data set has: how its pixels are scaled, and how its training images are varied."""

    mean: tuple[float, ...] = (0.5,)
    """Mean of the pixels in [0, 1], one a channel or one for all; subtracted."""
    std: tuple[Annotated[float, Field(gt=0)], ...] = (0.5,)
    """Standard deviation of the pixels in [0, 1], one a channel or one for all; divided by."""
    augment: Literal["none", "crop", "crop_flip"] = "none"
    """Variation of training images: random 4-pixel shifts, with mirroring or without."""

    def load(self) -> Examples:
        """Reads the data set; memory-mapped where it is large.

        Raises:
            ValueError: It is not there, could not be downloaded, or is not what it should be.
        """
        raise NotImplementedError


class Digits(Images):
    """scikit-learn's handwritten digits: 1,797 real scans of 8x8 pixels; every fifth is the test set."""

    name: Literal["digits"] = "digits"

    def load(self) -> Examples:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        # Pixels are 0..16; the split is part of the data set, the same for every seed of a run.
        images = np.round(images.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0)
        labels = labels.astype(np.int64)
        names = tuple(str(digit) for digit in range(10))
        return Examples(images[train], labels[train], images[test], labels[test], names)


class _Downloaded(Images):
    root: Path | None = None
    """Folder of the downloaded files; none is the cache folder ($FEDTINY_CACHE or ~/.cache/fedtiny)."""
    download: bool = True
    """Whether to download the files if they are not there."""

    def _read(self, root: Path) -> Examples:
        raise NotImplementedError

    def load(self) -> Examples:
        root = (self.root or cache_folder() / "downloads").expanduser()
        key = hashlib.sha256(f"{type(self).__name__} {root.resolve()}".encode()).hexdigest()[:16]
        try:
            return cached(key, lambda: self._read(root))
        except (OSError, RuntimeError) as error:
            how = "and could not be downloaded" if self.download else "and data.download is false"
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{type(self).__name__} is not in {root} {how} ({reason}); put its files there or set data.root"
            ) from error


class _Cifar(Protocol):
    data: NDArray[np.uint8]
    targets: list[int]
    classes: list[str]


def _cifar(train: _Cifar, test: _Cifar) -> Examples:
    (images, labels), (test_images, test_labels) = (
        (np.ascontiguousarray(x.data.transpose(0, 3, 1, 2)), np.array(x.targets, dtype=np.int64)) for x in (train, test)
    )
    return Examples(images, labels, test_images, test_labels, tuple(train.classes))


class Cifar10(_Downloaded):
    """CIFAR-10 (Krizhevsky 2009): 60,000 colour photographs of 32x32 pixels in 10 classes."""

    name: Literal["cifar10"] = "cifar10"
    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2470, 0.2435, 0.2616)
    augment: Literal["none", "crop", "crop_flip"] = "crop_flip"

    def _read(self, root: Path) -> Examples:
        from torchvision.datasets import CIFAR10 as Reader

        return _cifar(*(Reader(str(root), train=part, download=self.download) for part in (True, False)))


class Cifar100(_Downloaded):
    """CIFAR-100 (Krizhevsky 2009): 60,000 colour photographs of 32x32 pixels in 100 classes."""

    name: Literal["cifar100"] = "cifar100"
    mean: tuple[float, ...] = (0.5071, 0.4865, 0.4409)
    std: tuple[float, ...] = (0.2673, 0.2564, 0.2762)
    augment: Literal["none", "crop", "crop_flip"] = "crop_flip"

    def _read(self, root: Path) -> Examples:
        from torchvision.datasets import CIFAR100 as Reader

        return _cifar(*(Reader(str(root), train=part, download=self.download) for part in (True, False)))


class Svhn(_Downloaded):
    """SVHN (Netzer et al. 2011): 99,289 house-number digits of 32x32 pixels, cropped from photographs."""

    name: Literal["svhn"] = "svhn"
    mean: tuple[float, ...] = (0.4377, 0.4438, 0.4728)
    std: tuple[float, ...] = (0.1980, 0.2010, 0.1970)
    augment: Literal["none", "crop", "crop_flip"] = "crop"

    def _read(self, root: Path) -> Examples:
        from torchvision.datasets import SVHN as Reader

        train, test = (Reader(str(root), split=part, download=self.download) for part in ("train", "test"))
        return Examples(
            np.ascontiguousarray(train.data),
            train.labels.astype(np.int64),
            np.ascontiguousarray(test.data),
            test.labels.astype(np.int64),
            tuple(str(digit) for digit in range(10)),
        )


class ImageFolder(Images):
    """Any folder of pictures: PATH/train/CLASS/*.png and PATH/test/CLASS/*.png (CINIC-10 has this form)."""

    name: Literal["image_folder"] = "image_folder"
    path: Path
    """The folder that holds `train` and `test`, each with one folder a class."""
    size: Annotated[int, Field(ge=4)] = 32
    """Height and width in pixels; other pictures are resized."""
    mean: tuple[float, ...] = (0.4789, 0.4723, 0.4305)
    std: tuple[float, ...] = (0.2421, 0.2383, 0.2587)
    augment: Literal["none", "crop", "crop_flip"] = "crop_flip"

    def load(self) -> Examples:
        from torchvision.datasets import ImageFolder as Reader

        root = self.path.expanduser()
        for part in ("train", "test"):
            if not (root / part).is_dir():
                raise ValueError(
                    f"data.path must be a folder that holds train/CLASS and test/CLASS, "
                    f"but there is no folder {root / part}"
                )
        try:
            train, test = (Reader(str(root / part)) for part in ("train", "test"))
        except FileNotFoundError as error:
            raise ValueError(f"data.path must hold pictures in train/CLASS and test/CLASS: {error}") from error
        if train.classes != test.classes:
            odd = sorted(set(train.classes) ^ set(test.classes))
            raise ValueError(f"train and test must have the same classes, but {odd} are only in one of them")
        digest = hashlib.sha256(f"{root.resolve()} {self.size}".encode())
        for file, label in train.samples + test.samples:
            stat = Path(file).stat()
            digest.update(f"{file} {label} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return cached(digest.hexdigest()[:16], lambda: self._read(train, test))

    def _read(self, train: "_Folder", test: "_Folder") -> Examples:
        parts = [self._decode(train.samples), self._decode(test.samples)]
        return Examples(*parts[0], *parts[1], tuple(train.classes))

    def _decode(self, samples: list[tuple[str, int]]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        from PIL import Image, UnidentifiedImageError

        images = np.empty((len(samples), 3, self.size, self.size), dtype=np.uint8)
        for i, (file, _) in enumerate(samples):
            try:
                with Image.open(file) as picture:
                    rgb = picture.convert("RGB")
            except (UnidentifiedImageError, OSError) as error:
                raise ValueError(f"data.path must hold only pictures, but {file} cannot be read") from error
            if rgb.size != (self.size, self.size):
                rgb = rgb.resize((self.size, self.size))
            images[i] = np.asarray(rgb).transpose(2, 0, 1)
        return images, np.array([label for _, label in samples], dtype=np.int64)


class _Folder(Protocol):
    samples: list[tuple[str, int]]
    classes: list[str]


class Synthetic(Images):
    """Noisy copies of one random pattern a class, drawn from a seed: for tests and smoke runs."""

    name: Literal["synthetic"] = "synthetic"
    examples: Annotated[int, Field(ge=2)] = 240
    """Training images."""
    test_examples: Annotated[int, Field(ge=1)] = 60
    """Test images."""
    classes: Annotated[int, Field(ge=1)] = 4
    """Classes."""
    channels: Annotated[int, Field(ge=1)] = 1
    """Channels of an image."""
    size: Annotated[int, Field(ge=4)] = 8
    """Height and width of an image, in pixels."""
    noise: Annotated[float, Field(ge=0)] = 40.0
    """Standard deviation of the noise, in grey levels of 255."""

    def load(self) -> Examples:
        rng = seeds.stream(0, "synthetic")
        shape = (self.channels, self.size, self.size)
        patterns = rng.uniform(0, 255, (self.classes, *shape))
        total = self.examples + self.test_examples
        labels = np.arange(total, dtype=np.int64) % self.classes
        noisy = patterns[labels] + rng.normal(0, self.noise, (total, *shape))
        images = np.clip(noisy, 0, 255).astype(np.uint8)
        n = self.examples
        names = tuple(f"class {i}" for i in range(self.classes))
        return Examples(images[:n], labels[:n], images[n:], labels[n:], names)


AnyData = Annotated[Digits | Cifar10 | Cifar100 | Svhn | ImageFolder | Synthetic, Field(discriminator="name")]
