"""Runs whose settings change on the way, and runs that go on from another one's round."""

import json
from pathlib import Path

import pytest

from fedtiny.__main__ import main
from fedtiny.config.load import ConfigError, load
from fedtiny.forecast.entrants import METHODS
from fedtiny.methods.phases import phase
from fedtiny.resumption import fork
from tests.conftest import SMOKE, Runner

LATER = "from_round={2: {training: {lr: 0.2}, method: {adjust_every: 3, fraction: 0.4}}}"


def test_each_round_has_the_settings_of_its_phase() -> None:
    config = load([SMOKE], ["from_round.3.training.lr=0.01", "from_round.2.method.adjust_every=2"])
    told = [(phase(config.phases, r).method, phase(config.phases, r).training) for r in range(4)]
    assert [method.model_dump()["adjust_every"] for method, _ in told] == [1, 1, 2, 2]
    assert [training.lr for _, training in told] == [0.05, 0.05, 0.05, 0.01]
    assert told[3][0] == config.method.model_copy(update={"adjust_every": 2})


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "from_round.4.training.lr=1",
            "from_round.4: must be a round from 1 to the last, 3; raise rounds, or ",
        ),
        (
            "from_round.0.training.lr=1",
            "from_round.0: must be a round from 1 to the last, 3; raise rounds, or ",
        ),
        (
            "from_round.2.training.batch=8",
            "from_round.2.training.batch: cannot change on the way; what can is clip",
        ),
        (
            "from_round.2.method.density=1",
            "from_round.2.method.density: cannot change on the way; what can is adj",
        ),
        ("from_round.2.training.lr=-1", "from_round.2.training.lr: input should be greater than 0, got -1"),
        ("from_round.2.trainin.lr=1", "from_round.2.trainin: there is no such key; did you mean training?"),
    ],
)
def test_what_cannot_change_is_refused(override: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load([SMOKE], [override])
    assert refused.value.problems[0].startswith(told)


def test_nothing_is_other_before_the_change_and_something_after_it(make_run: Runner) -> None:
    plain, changed = make_run("engine=dense").records, make_run("engine=dense", LATER, folder="changed").records
    assert [x.weights_sha256 for x in plain[:2]] == [x.weights_sha256 for x in changed[:2]]
    assert plain[2].weights_sha256 != changed[2].weights_sha256
    assert [bool(x.exchanged) for x in changed] == [False, True, False, True]


def test_a_change_to_what_is_already_so_changes_no_bit(make_run: Runner) -> None:
    plain = make_run("engine=dense").summary
    same = make_run(
        "engine=dense", "from_round={2: {training: {lr: 0.05}, method: {adjust_every: 1}}}", folder="same"
    ).summary
    for key in ("weights_sha256", "upload_bytes", "download_bytes"):
        assert same[key] == plain[key]


def test_null_leaves_out_what_an_earlier_preset_changes() -> None:
    changed = ["from_round.2.training.lr=0.2", "from_round.3.training.lr=0.3"]
    assert list(load([SMOKE], [*changed, "from_round.2=null"]).from_round) == [3]
    assert load([SMOKE], [*changed, "from_round=null"]) == load([SMOKE])


def test_blocks_take_their_turns_when_adjustments_come_faster(make_run: Runner) -> None:
    overrides = ["engine=dense", "method.candidates=1", "method.adjust_every=2", "rounds=6", "method.stop_round=9"]
    moved = [
        next(iter(x.exchanged)).partition(".conv")[0]
        for x in make_run(*overrides, "from_round.4.method.adjust_every=1").records
        if x.exchanged
    ]
    assert moved == ["stages.2.0", "stages.1.0", "stages.0.0"]  # after rounds 2, 4 and 5


def test_methods_that_are_compared_change_what_they_have() -> None:
    changed = load([SMOKE], ["from_round={2: {training: {lr: 0.1}, method: {adjust_every: 3, fraction: 0.4}}}"])
    told = {kind: changed.shared_with(METHODS[kind]).from_round[2].method for kind in ("fedtiny", "prunefl", "dense")}
    assert told == {"fedtiny": {"adjust_every": 3, "fraction": 0.4}, "prunefl": {"adjust_every": 3}, "dense": {}}


def test_a_run_that_goes_on_from_another_is_the_run_whose_settings_changed_there(tmp_path: Path) -> None:
    parent, child = tmp_path / "parent", tmp_path / "child"
    assert main(["run", str(SMOKE), "engine=dense", f"out={parent}"]) == 0
    for path in (parent / "checkpoints").glob("*.safetensors"):  # as if it stood after two rounds
        path.unlink()
    assert main(["run", str(SMOKE), "engine=dense", "rounds=2", f"out={tmp_path / 'two'}"]) == 0
    (tmp_path / "two" / "checkpoints" / "000002.safetensors").rename(parent / "checkpoints" / "000002.safetensors")
    config = load([SMOKE], ["engine=dense", "name=child", LATER])
    for _ in range(2):  # to do it twice is to do it once
        fork(parent, child, config, 2)
    assert main(["resume", str(child)]) == 0
    whole = tmp_path / "whole"
    assert main(["run", str(child / "config.yaml"), f"out={whole}"]) == 0
    told = [json.loads((folder / "summary.json").read_text()) for folder in (child, whole)]
    for key in ("weights_sha256", "upload_bytes", "download_bytes", "test_accuracy", "rounds"):
        assert told[0][key] == told[1][key]


def test_a_run_that_was_another_one_before_is_refused(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    assert main(["run", str(SMOKE), "engine=dense", "rounds=2", f"out={parent}"]) == 0
    with pytest.raises(ConfigError, match=r"config.yaml was changed since round 2 \(seed\)"):
        fork(parent, tmp_path / "child", load([SMOKE], ["engine=dense", "seed=1"]), 2)
