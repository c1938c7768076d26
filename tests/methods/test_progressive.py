"""FedTiny's second module, equation by equation."""

import pytest
import torch
from torch import tensor

from fedtiny.methods.progressive import (
    Direction,
    Scope,
    adjust,
    average_gradients,
    exchange_counts,
    turn,
)
from fedtiny.payload.probes import Gradients
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network


@pytest.mark.parametrize(
    ("scope", "direction", "turns"),
    [
        ("block", "backward", [[2], [1], [0], [2], [1], [0], [2]]),
        ("block", "forward", [[0], [1], [2], [0]]),
        ("network", "backward", [[0, 1, 2], [0, 1, 2]]),
    ],
)
def test_blocks_take_turns_counted_by_adjustments(
    network: Network, scope: Scope, direction: Direction, turns: list[list[int]]
) -> None:
    for number, blocks in enumerate(turns):
        expected = tuple(name for block in blocks for name in network.blocks[block])
        assert turn(network, number, scope, direction) == expected


def test_single_layers_take_turns_from_the_output(network: Network) -> None:
    names = list(network.prunable)
    assert [turn(network, n, "layer", "backward")[0] for n in range(9)] == [*names[::-1], names[-1]]


def mask_of(**kept: str) -> Mask:
    return Mask({name: tensor([char == "1" for char in bits]) for name, bits in kept.items()})


def test_counts_follow_the_cosine_within_what_can_be_exchanged() -> None:
    mask = mask_of(a="1" * 20 + "0" * 80, b="1" * 20 + "0" * 2, c="1" + "0" * 9)
    # 0.15 (1 + cos(pi 10 / 40)) * 20 = 5.12; b has two pruned weights only; c must keep its last one.
    assert exchange_counts(mask, ["a", "b", "c"], 10, 40, 0.15) == {"a": 5, "b": 2, "c": 0}
    assert exchange_counts(mask, ["a"], 40, 40, 0.15) == {"a": 0}


def test_gradients_are_averaged_signed_and_absent_ones_count_as_0() -> None:
    one = Gradients({"w": (tensor([0, 2]), tensor([4.0, 1.0]))})
    two = Gradients({"w": (tensor([0, 3]), tensor([-1.0, 2.0]))})
    result = average_gradients([(1, one), (3, two)], {"w": (2, 2)})
    # (1 * 4 - 3 * 1) / 4, 0, 1 / 4, 3 * 2 / 4: clients that disagree in sign cancel.
    assert result["w"].tolist() == [[0.25, 0.0], [0.25, 1.5]]


def test_an_adjustment_by_hand() -> None:
    mask = mask_of(w="11110000", v="1100")
    weights = {
        "w": tensor([0.5, -0.1, 0.3, -0.2, 0.0, 0.0, 0.0, 0.0]),
        "v": tensor([1.0, 2.0, 0.0, 0.0]),
        "b": tensor([7.0]),
    }
    gradients = {"w": tensor([9.0, 9.0, 9.0, 9.0, 0.1, -0.4, 0.0, 0.2])}
    new, moved = adjust(mask, weights, gradients, {"w": 2})
    assert new.keep["w"].int().tolist() == [1, 0, 1, 0, 0, 1, 0, 1]
    # Dropped weights are exactly 0, grown ones start at 0, the others stay.
    assert moved["w"].tolist() == pytest.approx([0.5, 0, 0.3, 0, 0, 0, 0, 0])
    assert moved["v"] is weights["v"]
    assert moved["b"] is weights["b"]
    assert new.kept == mask.kept
    # The arguments are as they were.
    assert mask.keep["w"].int().tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert weights["w"].tolist() == pytest.approx([0.5, -0.1, 0.3, -0.2, 0, 0, 0, 0])


def test_no_gradient_no_exchange() -> None:
    mask = mask_of(w="1100")
    new, moved = adjust(mask, {"w": tensor([1.0, 2.0, 0.0, 0.0])}, {"w": torch.zeros(4)}, {"w": 1})
    assert new.equals(mask)
    assert moved["w"].tolist() == [1.0, 2.0, 0.0, 0.0]
