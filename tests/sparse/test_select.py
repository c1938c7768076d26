import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor

from fedtiny.sparse.select import drop_then_grow, keep_top, keep_top_overall, top_indices

SCORE = tensor([[3.0, 1.0, 2.0], [2.0, 5.0, 2.0]])


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        (0, [[0, 0, 0], [0, 0, 0]]),
        (1, [[0, 0, 0], [0, 1, 0]]),
        (2, [[1, 0, 0], [0, 1, 0]]),
        (3, [[1, 0, 1], [0, 1, 0]]),  # 2.0 stands three times: the lowest index first
        (4, [[1, 0, 1], [1, 1, 0]]),
        (6, [[1, 1, 1], [1, 1, 1]]),
    ],
)
def test_keep_top_keeps_the_highest_and_gives_ties_to_the_lower_index(count: int, kept: list[list[int]]) -> None:
    mask = keep_top({"w": SCORE}, {"w": count})
    assert mask.keep["w"].int().tolist() == kept


@pytest.mark.parametrize("count", [-1, 7])
def test_a_count_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"count must be in \[0, 6\] for w, got {count}"):
        keep_top({"w": SCORE}, {"w": count})


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="got NaN for w"):
        keep_top({"w": tensor([1.0, float("nan")])}, {"w": 1})


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        (2, [[0, 1, 0], [0, 1]]),  # the best of each layer, though four of a's beat all of b's
        (3, [[1, 1, 0], [0, 1]]),
        (4, [[1, 1, 1], [0, 1]]),
        (5, [[1, 1, 1], [1, 1]]),
    ],
)
def test_the_highest_of_all_layers_stay_and_one_of_each(count: int, kept: list[list[int]]) -> None:
    mask = keep_top_overall({"a": tensor([5.0, 9.0, 4.0]), "b": tensor([1.0, 2.0])}, count)
    assert [keep.int().tolist() for keep in mask.keep.values()] == kept


def test_ties_between_layers_go_to_the_first_and_within_one_to_the_lower_index() -> None:
    mask = keep_top_overall({"a": torch.zeros(3), "b": torch.zeros(2, 2)}, 4)
    assert [keep.flatten().int().tolist() for keep in mask.keep.values()] == [[1, 1, 1], [1, 0, 0, 0]]


@pytest.mark.parametrize("count", [1, 6])
def test_a_count_that_empties_a_layer_or_exceeds_all_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"count must be in \[2, 5\], got {count}"):
        keep_top_overall({"a": torch.zeros(3), "b": torch.zeros(2)}, count)
    with pytest.raises(ValueError, match="got NaN for b"):
        keep_top_overall({"a": torch.zeros(3), "b": tensor([0.0, float("nan")])}, 2)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.data())
def test_top_indices_is_a_stable_sort(scores: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(scores)))
    expected = sorted(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count])
    assert top_indices(tensor(scores, dtype=torch.float32), count).tolist() == expected


#        index       0     1     2     3     4     5     6     7
KEEP = tensor([True, True, True, True, False, False, False, False])
WEIGHT = tensor([0.5, -0.1, 0.3, -0.2, 0.0, 0.0, 0.0, 0.0])
GRADIENT = tensor([9.0, 9.0, 9.0, 9.0, 0.1, -0.4, 0.0, 0.2])


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        (0, [1, 1, 1, 1, 0, 0, 0, 0]),
        (1, [1, 0, 1, 1, 0, 1, 0, 0]),  # drops -0.1, grows -0.4: magnitudes decide, kept gradients do not
        (2, [1, 0, 1, 0, 0, 1, 0, 1]),
        (3, [1, 0, 0, 0, 1, 1, 0, 1]),
        (4, [1, 0, 0, 0, 1, 1, 0, 1]),  # only three pruned weights have a gradient
    ],
)
def test_drop_then_grow_exchanges_the_smallest_for_the_steepest(count: int, kept: list[int]) -> None:
    assert drop_then_grow(KEEP, WEIGHT, GRADIENT, count).int().tolist() == kept


def test_a_layer_is_never_emptied() -> None:
    keep = tensor([True, False, False])
    grown = drop_then_grow(keep, tensor([0.1, 0.0, 0.0]), tensor([0.0, 1.0, 2.0]), 1)
    assert grown.tolist() == keep.tolist()


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(0, 60))
def test_grown_and_dropped_are_disjoint_and_equally_many(seed: int, size: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(size, generator=generator) < 0.5
    weight = torch.randn(size, generator=generator) * keep
    gradient = torch.randn(size, generator=generator)
    new = drop_then_grow(keep, weight, gradient, count)
    assert new.sum() == keep.sum()
    grown, dropped = new & ~keep, keep & ~new
    assert int(grown.sum()) == int(dropped.sum()) == max(0, min(count, int((~keep).sum()), int(keep.sum()) - 1))
    left_out = ~keep & ~new
    if grown.any():
        assert weight[dropped].abs().max() <= weight[keep & new].abs().min()
    if grown.any() and left_out.any():
        assert gradient[grown].abs().min() >= gradient[left_out].abs().max()
