"""Each aggregation against numbers worked by hand, and against a liar."""

from itertools import permutations
from pathlib import Path

import pytest
import torch

from fedtiny.__main__ import main
from fedtiny.config.load import load
from fedtiny.methods.aggregation import AnyAggregation, Krum, Mean, Median, TrimmedMean
from fedtiny.payload.messages import Upload
from fedtiny.payload.packing import Layout, Packing
from tests.conftest import SMOKE

PACKING = Packing.of(Layout({"w": torch.Size([2])}, frozenset()), None)


def uploads(*rows: tuple[float, float], examples: int = 1) -> list[Upload]:
    return [Upload(k, examples * (k + 1), 0.0, torch.tensor(row), PACKING) for k, row in enumerate(rows)]


def folded(aggregation: AnyAggregation, sent: list[Upload]) -> list[float]:
    fold = aggregation.fold()
    for upload in sent:
        fold.add(upload)
    return [round(float(x), 5) for x in fold.result()]


FOUR = uploads((1.0, 10.0), (2.0, 20.0), (4.0, 0.0), (8.0, 30.0))
FIVE = uploads((0.0, 0.0), (1.0, 0.0), (0.0, 2.0), (1.0, 1.0), (100.0, 100.0))


@pytest.mark.parametrize(
    ("aggregation", "sent", "expected"),
    [
        (Mean(), FOUR, [4.9, 17.0]),  # weights 1, 2, 3, 4: (1 + 4 + 12 + 32) / 10, (10 + 40 + 0 + 120) / 10
        (Median(), FOUR, [3.0, 15.0]),
        (Median(), FOUR[:3], [2.0, 10.0]),
        (TrimmedMean(trim=0.25), FOUR, [3.0, 15.0]),  # without 1 and 8; without 0 and 30
        (TrimmedMean(trim=0.1), FOUR, [3.75, 15.0]),  # of four, a tenth is nobody
        # Squared distances to the 2 nearest of 0: 1, 2 -> 3; of 1: 1, 1 -> 2; of 2: 4, 2 -> 6; of 3: 1, 2 -> 3.
        (Krum(liars=1), FIVE, [1.0, 0.0]),
        (Krum(liars=1, chosen=3), FIVE, [0.66667, 0.33333]),  # 1, then 0 before 3: their scores are equal
    ],
)
def test_by_hand(aggregation: AnyAggregation, sent: list[Upload], expected: list[float]) -> None:
    assert folded(aggregation, sent) == expected
    assert {tuple(folded(aggregation, list(other))) for other in permutations(sent)} == {tuple(expected)}


@pytest.mark.parametrize(
    ("aggregation", "holds"),
    [(Mean(), False), (Median(), True), (TrimmedMean(trim=0.2), True), (Krum(liars=1), True)],
)
def test_a_liar_moves_the_mean_and_none_of_the_others(aggregation: AnyAggregation, holds: bool) -> None:
    assert (max(folded(aggregation, FIVE)) <= 2) == holds


@pytest.mark.parametrize(
    ("aggregation", "least"),
    [
        (Mean(), 1),
        (Median(), 3),
        (TrimmedMean(trim=0.1), 10),
        (TrimmedMean(trim=0.34), 3),
        (Krum(liars=2), 7),
        (Krum(liars=1, chosen=3), 6),
    ],
)
def test_the_clients_that_a_promise_takes(aggregation: AnyAggregation, least: int) -> None:
    assert aggregation.least() == least


@pytest.mark.parametrize(("liars", "chosen"), [(1, 1), (1, 3), (1, 5), (2, 8), (3, 2)])
def test_krum_never_averages_a_liar_where_enough_answer(liars: int, chosen: int) -> None:
    krum = Krum(liars=liars, chosen=chosen)
    honest = [(float(k % 3), float(k % 2)) for k in range(krum.least() - liars)]
    for where in range(len(honest) + 1):  # whatever ids the liars have
        # Together they are as near to one another as can be.
        rows = [*honest[:where], *[(1e3, 1e3)] * liars, *honest[where:]]
        assert max(folded(krum, uploads(*rows))) <= 2


def test_a_name_alone_will_do_and_too_few_clients_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load([SMOKE], ["aggregation=median"]).aggregation == Median()
    assert load([SMOKE], ["aggregation={name: krum, liars: 2}"]).aggregation == Krum(liars=2)
    assert main(["run", str(SMOKE), "aggregation=krum", f"out={tmp_path / 'out'}"]) == 2
    told = (
        "config: aggregation: krum so set needs 5 clients a round, got 3; raise cohort or clients, or set aggregation="
    )
    assert capsys.readouterr().err.startswith(told)
    assert main(["run", str(SMOKE), "aggregation=median", "rounds=2", f"out={tmp_path / 'out'}"]) == 0
