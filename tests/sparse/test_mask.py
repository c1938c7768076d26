import pytest
import torch
from torch import tensor

from fedtiny.sparse.mask import Mask

MASK = Mask({"a": tensor([[True, False], [False, False]]), "b": tensor([True, True, False] * 3)})


def test_density_counts_kept_over_prunable() -> None:
    assert (MASK.kept, MASK.size) == (7, 13)
    assert MASK.density == pytest.approx(7 / 13)
    assert MASK.densities() == {"a": 0.25, "b": pytest.approx(2 / 3)}


def test_an_empty_mask_is_dense() -> None:
    assert Mask({}).density == 1.0


def test_apply_sets_pruned_places_to_zero_whatever_stood_there() -> None:
    weights = {"a": tensor([[1.0, float("nan")], [float("inf"), -2.0]]), "b": torch.ones(9), "c": torch.ones(2)}
    MASK.apply_(weights)
    assert weights["a"].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert weights["b"].tolist() == [1, 1, 0, 1, 1, 0, 1, 1, 0]
    assert weights["c"].tolist() == [1, 1]


def test_wire_bytes_round_up_for_each_tensor() -> None:
    assert MASK.wire_bytes() == 1 + 2


def test_equals_compares_names_and_bits() -> None:
    assert MASK.equals(Mask({name: keep.clone() for name, keep in MASK.keep.items()}))
    assert not MASK.equals(None)
    assert not MASK.equals(Mask({"a": MASK.keep["a"]}))
    assert not MASK.equals(Mask({"a": ~MASK.keep["a"], "b": MASK.keep["b"]}))
