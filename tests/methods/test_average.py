import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor

from fedtiny.__main__ import main
from fedtiny.methods.average import MOST_EXAMPLES, ExactSum, OwnersMean, WeightedMean, exactness_problems
from fedtiny.payload.messages import Upload
from fedtiny.payload.packing import Layout, Packing
from fedtiny.sparse.mask import Mask
from tests.conftest import SMOKE


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


@pytest.mark.parametrize("sign", [1, -1])
def test_nothing_rounds_at_the_bounds(sign: int) -> None:
    value, small, total = tensor([1e8]).nextafter(tensor(0.0)), tensor([2.0**-44]), ExactSum(1)
    for weight in (MOST_EXAMPLES,) * 4 + (200_000,):
        total.add(sign * value, weight)
    total.add(small, 1)
    for weight in (MOST_EXAMPLES,) * 4 + (200_000,):
        total.add(-sign * value, weight)
    assert total.total.item() == 2.0**-44


@pytest.mark.parametrize(
    ("examples", "told"),
    [
        ([300_000] * 4 + [200_000], []),
        ([1] * 65_536, []),
        (
            [300_001],
            [
                "clients: each must hold at most 300,000 training examples, or sums over them would round, "
                "got 300,001; raise clients or lower split.limit"
            ],
        ),
        (
            [300_000] * 5,
            [
                "clients: together must hold at most 1,400,000 training examples, or sums over them would round, "
                "got 1,500,000; lower split.limit"
            ],
        ),
        (
            [1] * 65_537,
            ["clients: must be at most 65,536, or sums over them would round, got 65,537; lower it"],
        ),
    ],
)
def test_clients_beyond_the_bounds_are_told(examples: list[int], told: list[str]) -> None:
    assert exactness_problems(examples) == told


def test_a_run_beyond_the_bounds_is_refused_before_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedtiny.methods.average.MOST_EXAMPLES", 5)
    assert main(["run", str(SMOKE), f"out={tmp_path / 'out'}"]) == 2
    assert "config: clients: each must hold at most 5 training examples" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


THREE = Layout({"w": torch.Size([3]), "b": torch.Size([1])}, frozenset({"w"}))


def upload(client: int, examples: int, keep: list[bool], w: list[float], b: float) -> Upload:
    packing = Packing.of(THREE, Mask({"w": tensor(keep)}))
    weights = {"w": tensor(w) * tensor(keep), "b": tensor([b])}
    return Upload(client, examples, 0.5, packing.pack(weights), packing)


def test_owners_mean_by_hand() -> None:
    owners = OwnersMean(THREE)
    owners.add(upload(0, 1, [True, True, False], [2.0, 4.0, 0.0], 1.0))
    owners.add(upload(1, 3, [False, True, False], [0.0, 8.0, 0.0], 5.0))
    # Only the first keeps weight 0: it is not shrunk by who does not. (1 * 4 + 3 * 8) / 4 = 7. Nobody keeps weight 2.
    assert owners.result()["w"].tolist() == [2.0, 7.0, 0.0]
    assert owners.result()["b"].tolist() == [4.0]
    assert owners.result(otherwise={"w": tensor([9.0, 9.0, 9.0]), "b": tensor([9.0])})["w"].tolist() == [2.0, 7.0, 9.0]
    assert owners.votes["w"].tolist() == [1, 4, 0]
    assert owners.votes["b"].tolist() == [4]


# What one client sends: its examples, and for each weight whether it keeps it, and its value.
one_client = st.tuples(st.integers(1, 40_000), st.lists(st.tuples(st.booleans(), numbers), min_size=3, max_size=3))


@given(st.lists(one_client, min_size=1, max_size=8), st.randoms())
def test_owners_mean_is_that_of_a_naive_loop_in_any_order(
    clients: list[tuple[int, list[tuple[bool, float]]]], random: object
) -> None:
    assert hasattr(random, "shuffle")
    uploads = [
        upload(i, examples, [keep for keep, _ in weights], [x for _, x in weights], 1.0)
        for i, (examples, weights) in enumerate(clients)
    ]
    results = []
    for _ in range(3):
        owners = OwnersMean(THREE)
        for x in uploads:
            owners.add(x)
        results.append((owners.result()["w"].tolist(), owners.votes["w"].tolist()))
        random.shuffle(uploads)
    assert results[0] == results[1] == results[2]
    for j in range(3):
        own = [(examples, weights[j][1]) for examples, weights in clients if weights[j][0]]
        votes = sum(examples for examples, _ in own)
        mean = math.fsum(examples * x for examples, x in own) / votes if own else 0.0
        assert results[0][1][j] == votes
        assert results[0][0][j] == pytest.approx(mean, rel=1e-6, abs=1e-12)


def test_owners_of_everything_give_the_plain_mean_to_the_bit() -> None:
    uploads = [upload(i, 3 + i, [True] * 3, [0.1 * i, 1e7 / (i + 1), -3.3], 0.7 * i) for i in range(5)]
    owners, plain = OwnersMean(THREE), WeightedMean()
    for x in uploads:
        assert x.values is not None
        owners.add(x)
        plain.add(x.values, x.examples)
    assert [*owners.result()["w"].tolist(), *owners.result()["b"].tolist()] == plain.result().tolist()
