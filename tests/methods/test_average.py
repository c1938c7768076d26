import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor

from fedtiny.methods.average import ExactSum, WeightedMean


def test_by_hand() -> None:
    mean = WeightedMean()
    mean.add(tensor([1.0, 0.0, 4.0]), 1)
    mean.add(tensor([5.0, 0.0, 0.0]), 3)
    result = mean.result()
    assert result.tolist() == [4.0, 0.0, 1.0]
    assert result.dtype is torch.float32


def test_arguments_are_left_alone() -> None:
    values, mean = tensor([1.0]), WeightedMean()
    mean.add(values, 2)
    mean.add(tensor([3.0]), 2)
    mean.result()
    assert values.tolist() == [1.0]


def test_small_terms_are_not_lost_between_large_ones() -> None:
    mean = WeightedMean()
    for value in (1e8, 2.0**-40, -1e8):
        mean.add(tensor([value]), 1)
    assert mean.result().item() == tensor(2.0**-40 / 3).item()


numbers = st.floats(-1e8, 1e8, width=32)


@given(st.lists(st.tuples(numbers, st.integers(1, 40_000)), min_size=1, max_size=30), st.randoms())
def test_any_order_and_any_grouping_give_the_same_bits(terms: list[tuple[float, int]], random: object) -> None:
    assert hasattr(random, "shuffle")
    sums = []
    for _ in range(3):
        total = ExactSum(1)
        for value, weight in terms:
            total.add(tensor([value]), weight)
        sums.append(total.total.item())
        random.shuffle(terms)
    assert len(set(sums)) == 1
    exact = sum(int(value * 2**60) * weight for value, weight in terms) / 2**60
    assert sums[0] == pytest.approx(exact, rel=1e-15, abs=len(terms) * 2.0**-45)
