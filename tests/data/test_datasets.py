"""Every reader on small files of the format that the real data set has."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision
from PIL import Image

from fedtiny.data.datasets import Cifar10, Cifar100, ImageFolder, Svhn, Synthetic

RNG = np.random.default_rng(0)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def cifar_file(path: Path, key: str, count: int, classes: int) -> list[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (count, 3072), dtype=np.uint8)
    path.write_bytes(pickle.dumps({"data": pixels, key: [i % classes for i in range(count)]}))
    return [path.name, md5(path)]


def test_cifar10_in_torchvisions_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = torchvision.datasets.CIFAR10
    folder = tmp_path / reader.base_folder
    train = [cifar_file(folder / f"data_batch_{i}", "labels", 20, 10) for i in (1, 2)]
    test = [cifar_file(folder / "test_batch", "labels", 10, 10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"c{i}" for i in range(10)]}))
    monkeypatch.setattr(reader, "train_list", train)
    monkeypatch.setattr(reader, "test_list", test)
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(folder / "batches.meta")}
    monkeypatch.setattr(reader, "meta", meta)
    examples = Cifar10(root=tmp_path, download=False).load()
    assert examples.shape == (3, 32, 32)
    assert (len(examples.images), len(examples.test_images)) == (40, 10)
    first = pickle.loads((folder / "data_batch_1").read_bytes())
    assert np.array_equal(examples.images[0].flatten(), first["data"][0])  # rows are channels first
    assert examples.labels[:12].tolist() == [*range(10), 0, 1]
    assert examples.classes[3] == "c3"
    # The second time they come from the memory-mapped cache, equal.
    again = Cifar10(root=tmp_path, download=False).load()
    assert isinstance(again.images, np.memmap)
    assert np.array_equal(again.images, examples.images)


def test_cifar100_in_torchvisions_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = torchvision.datasets.CIFAR100
    folder = tmp_path / reader.base_folder
    monkeypatch.setattr(reader, "train_list", [cifar_file(folder / "train", "fine_labels", 100, 100)])
    monkeypatch.setattr(reader, "test_list", [cifar_file(folder / "test", "fine_labels", 10, 100)])
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"c{i}" for i in range(100)]}))
    meta = {"filename": "meta", "key": "fine_label_names", "md5": md5(folder / "meta")}
    monkeypatch.setattr(reader, "meta", meta)
    examples = Cifar100(root=tmp_path, download=False).load()
    assert (len(examples.images), len(examples.classes)) == (100, 100)
    assert examples.labels.tolist() == list(range(100))


def test_svhn_in_torchvisions_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = torchvision.datasets.SVHN
    pictures = RNG.integers(0, 256, (32, 32, 3, 12), dtype=np.uint8)
    parts = {}
    for part in ("train", "test"):
        path = tmp_path / f"{part}_32x32.mat"
        scipy.io.savemat(path, {"X": pictures, "y": np.arange(1, 13).reshape(-1, 1) % 11})
        parts[part] = ["http://nowhere", path.name, md5(path)]
    monkeypatch.setattr(reader, "split_list", parts)
    examples = Svhn(root=tmp_path, download=False).load()
    assert examples.shape == (3, 32, 32)
    assert np.array_equal(examples.images[2], pictures[:, :, :, 2].transpose(2, 0, 1))
    assert examples.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 1]  # class 10 of the file is digit 0


@pytest.mark.parametrize("data", [Cifar10, Cifar100, Svhn])
def test_files_that_are_not_there_are_one_line(data: type[Cifar10 | Cifar100 | Svhn], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not in .* and data.download is false \(.*\); put its files there"):
        data(root=tmp_path, download=False).load()


def picture(path: Path, size: tuple[int, int] = (32, 32), grey: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).save(path)


def test_any_folder_of_pictures(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for c, name in enumerate(("cat", "dog")):
            for i in range(3):
                picture(tmp_path / part / name / f"{i}.png", size=(40, 20), grey=100 * c + i)
    examples = ImageFolder(path=tmp_path, size=16).load()
    assert examples.shape == (3, 16, 16)
    assert examples.classes == ("cat", "dog")
    assert examples.images[:, 0, 0, 0].tolist() == [0, 1, 2, 100, 101, 102]
    assert examples.labels.tolist() == [0, 0, 0, 1, 1, 1]
    # A changed folder is read again.
    picture(tmp_path / "train" / "cat" / "9.png", grey=50)
    assert len(ImageFolder(path=tmp_path, size=16).load().images) == 7


def test_folders_that_are_no_picture_folders_are_one_line(tmp_path: Path) -> None:
    data = ImageFolder(path=tmp_path)
    with pytest.raises(
        ValueError, match=r"must be a folder that holds train/CLASS and test/CLASS, .* no folder .*train"
    ):
        data.load()
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(ValueError, match=r"data.path must hold pictures in train/CLASS and test/CLASS"):
        data.load()
    picture(tmp_path / "train" / "cat" / "0.png")
    picture(tmp_path / "test" / "dog" / "0.png")
    with pytest.raises(ValueError, match=r"the same classes, but \['cat', 'dog'\] are only in one"):
        data.load()
    picture(tmp_path / "train" / "dog" / "0.png")
    picture(tmp_path / "test" / "cat" / "0.png")
    (tmp_path / "test" / "cat" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"must hold only pictures, but .*1.png cannot be read"):
        data.load()


def test_synthetic_pictures_are_the_same_every_time() -> None:
    a, b = Synthetic().load(), Synthetic().load()
    assert np.array_equal(a.images, b.images)
    assert (len(a.images), len(a.test_images), len(a.classes)) == (240, 60, 4)
