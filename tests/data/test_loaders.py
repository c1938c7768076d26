import numpy as np
import pytest
import torch

from fedtiny.data.datasets import Synthetic
from fedtiny.data.loaders import Batches, scaled

IMAGES = np.arange(20 * 4, dtype=np.uint8).reshape(20, 1, 2, 2)
LABELS = np.arange(20)
DATA = Synthetic()


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(6, [2, 4]), (8, [4, 4]), (3, [3]), (1, [1]), (5, [5]), (9, [5, 4])],
)
def test_the_short_batch_comes_first_and_is_never_a_single_example(count: int, sizes: list[int]) -> None:
    batches = Batches(IMAGES, LABELS, np.arange(count), 4, DATA)
    assert len(batches) == len(sizes)
    assert [len(labels) for _, labels in batches] == sizes


def test_each_epoch_shows_each_example_once_in_another_order() -> None:
    batches = Batches(IMAGES, LABELS, np.arange(3, 17), 4, DATA, np.random.default_rng(0))
    epochs = [torch.cat([labels for _, labels in batches]).tolist() for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(3, 17))


def test_pixels_are_scaled_channel_by_channel() -> None:
    images = np.full((1, 2, 1, 1), 255, dtype=np.uint8)
    data = Synthetic(mean=(0.5, 0.0), std=(0.5, 2.0))
    assert scaled(images, data).flatten().tolist() == [1.0, 0.5]


def test_augmentation_shifts_training_images_and_follows_the_seed() -> None:
    data = Synthetic(augment="crop_flip")
    images = np.random.default_rng(0).integers(0, 255, (8, 3, 16, 16), dtype=np.uint8)
    labels = np.zeros(8, dtype=np.int64)

    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        ((batch, _),) = Batches(images, labels, np.arange(8), 8, data, np.random.default_rng(0))
        return batch

    assert draw(1).equal(draw(1))
    assert not draw(1).equal(draw(2))
    ((still, _),) = Batches(images, labels, np.arange(8), 8, data)
    assert still.equal(scaled(images, data))
