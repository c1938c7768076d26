import torch
from torch import tensor

from fedtiny.methods.average import WeightedMean


def test_by_hand() -> None:
    mean = WeightedMean()
    mean.add({"w": tensor([1.0, 0.0]), "b": tensor([4.0])}, 1)
    mean.add({"w": tensor([5.0, 0.0]), "b": tensor([0.0])}, 3)
    result = mean.result()
    assert result["w"].tolist() == [4.0, 0.0]
    assert result["b"].tolist() == [1.0]
    assert result["w"].dtype is torch.float32


def test_arguments_are_left_alone() -> None:
    tensors = {"w": tensor([1.0])}
    mean = WeightedMean()
    mean.add(tensors, 2)
    mean.add({"w": tensor([3.0])}, 2)
    mean.result()
    assert tensors["w"].tolist() == [1.0]


def test_sums_are_float64() -> None:
    mean = WeightedMean()
    for value in (1e8, 1.0, -1e8):  # in float32 the 1 would be lost
        mean.add({"w": tensor([value])}, 1)
    assert mean.result()["w"].item() == tensor(1 / 3).item()
