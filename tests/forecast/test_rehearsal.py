"""What a run was said to cost, against what it came to."""

import pytest

from fedtiny.config.load import load
from fedtiny.forecast.rehearsal import Rehearsal, rehearse
from fedtiny.methods import FedTiny
from fedtiny.prepare import prepare
from tests.conftest import SMOKE, Runner, foreseen

SAME = [
    "upload_bytes",
    "download_bytes",
    "selection_bytes",
    "flops_per_round_max",
    "dense_flops_per_round_max",
    "selection_flops_max",
    "memory_bytes_max",
    "activation_bytes_max",
    "density",
    "parameters",
    "prunable",
]


def rehearsed(*overrides: str) -> Rehearsal:
    return rehearse(prepare(load([SMOKE], overrides)))


@pytest.mark.parametrize(
    "overrides",
    [
        ["method={name: dense}"],
        ["method={name: static, density: 0.05}"],
        ["method={name: static, density: 0.05, allocation: {name: erk}, score: random}"],
        ["method={name: static, density: 0.05}", "clients=6", "cohort=2", "rounds=7"],
        ["method={name: static, density: 0.05}", "training.lr_schedule=cosine", "clients=4", "cohort=3", "rounds=5"],
        ["method={name: dense}", "aggregation=median", "training.momentum=0"],
        # One candidate: nothing hangs on the data but which weights the mask moves, not how many.
        ["method={name: fedtiny, density: 0.05, candidates: 1, adjust_every: 1, stop_round: 4}"],
        ["method={name: fedtiny, density: 0.05, candidates: 1, adjust_every: 2, stop_round: 7}", "rounds=8"],
        ["method.candidates=1", "from_round={2: {training: {lr: 0.1, epochs: 2}, method: {adjust_every: 3}}}"],
        ["method={name: fedtiny, density: 0.05, candidates: 1, adapt: false, fraction: 0, development: 0.5}"],
    ],
    ids=" ".join,
)
def test_equal_to_the_byte_where_the_data_decides_nothing(overrides: list[str], make_run: Runner) -> None:
    summary, bill = make_run(*overrides).summary, foreseen(*overrides)
    assert {key: bill[key] for key in SAME} == {key: summary[key] for key in SAME}


def test_every_round_is_as_it_was_foreseen(make_run: Runner) -> None:
    overrides = ["method={name: fedtiny, density: 0.05, candidates: 1, adjust_every: 2, stop_round: 7}", "rounds=9"]
    records, told = make_run(*overrides).records, rehearsed(*overrides)
    assert [x.upload_bytes for x in told.rounds] == [x.upload_bytes for x in records]
    assert [x.download_bytes for x in told.rounds] == [x.download_bytes for x in records]
    assert [x.effort.memory_bytes for x in told.rounds] == [x.memory_bytes for x in records]
    examples = told.examples
    assert [x.effort.flops(max(examples[k] for k in x.clients)) for x in told.rounds] == [x.flops for x in records]


def test_candidates_of_the_same_density_cost_nearly_the_same(make_run: Runner) -> None:
    summary, bill = make_run("method.candidates=8").summary, foreseen("method.candidates=8")
    for key in ("upload_bytes", "download_bytes", "selection_bytes", "memory_bytes_max"):
        assert bill[key] == pytest.approx(summary[key], rel=0.03), key


@pytest.mark.parametrize("cohort", ["", "cohort=2"])
def test_rounds_at_rest_need_not_be_played(cohort: str, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["clients=5", "rounds=12", "method.adjust_every=4", "method.stop_round=12", *filter(None, [cohort])]
    some = rehearsed(*overrides)
    monkeypatch.setattr(FedTiny, "rests", lambda self, round: False)
    all_of_them = rehearsed(*overrides)
    assert all_of_them.played == 12
    assert some.played == 5  # rounds 0, 4, 5, 8 and 9
    assert [x.clients for x in some.rounds] == [x.clients for x in all_of_them.rounds]
    assert [x.upload_bytes for x in some.rounds] == [x.upload_bytes for x in all_of_them.rounds]
    assert [x.download_bytes for x in some.rounds] == [x.download_bytes for x in all_of_them.rounds]


def test_devices_take_as_long_as_in_a_run(make_run: Runner) -> None:
    overrides = ["devices={classes: {phone: {availability: 0.7}}}", "method={name: static, density: 0.05}", "clients=5"]
    summary, bill = make_run(*overrides).summary, foreseen(*overrides)
    assert bill["simulated_seconds"] == summary["simulated_seconds"]
    assert bill["joules"] == summary["joules"]
    assert bill["upload_bytes"] == summary["upload_bytes"]


def test_the_servers_memory_by_hand() -> None:
    bill, robust = foreseen("method={name: dense}"), foreseen("method={name: dense}", "aggregation=median")
    numbers = bill["server_state_bytes"]
    assert isinstance(numbers, int)
    numbers //= 4  # the weights, float32
    assert bill["server_aggregation_bytes"] == 36 * numbers
    assert robust["server_aggregation_bytes"] == 20 * numbers * 3
