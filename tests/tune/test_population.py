"""Populations: who goes on from whom, by hand; and one on a real Ray and Tune."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fedtiny.__main__ import main as fedtiny
from fedtiny.config.load import ConfigError, load
from tests.conftest import SMOKE
from tests.tune.test_space import preset
from tune.__main__ import main
from tune.folder import Folder
from tune.lineage import History, line_of
from tune.objective import Objective
from tune.population import Fork, Generation, bred, forked, moved
from tune.request import requested
from tune.space import Dimension, Sample
from tune.sweep import Population, Sweep

ROOT = SMOKE.parent.parent
QUICK = ["pretraining.epochs=0", "engine=dense", "method.candidates=1"]
SPACE = {"training.lr": Dimension.model_validate({"loguniform": [0.01, 1.0]})}
UP, DOWN = Objective(figure="test_accuracy", direction="max"), Objective(figure="test_loss", direction="min")


def generation(scores: dict[str, float], share: float = 0.25, objective: Objective = UP) -> Generation:
    samples: dict[str, Sample] = {name: {"training.lr": 0.1} for name in "abcdefgh"}
    population = Population(share=share)
    sweep = Sweep(space=SPACE, search="population", samples=8, population=population, objectives=(objective,))
    return bred(sweep, load([SMOKE]), samples, scores, 5)


EIGHT = dict(zip("abcdefgh", [0.5, 0.9, 0.1, 0.8, 0.4, 0.2, 0.6, 0.3], strict=True))


@pytest.mark.parametrize(
    ("scores", "share", "objective", "weak", "strong"),
    [
        (EIGHT, 0.25, UP, "cf", "bd"),
        (EIGHT, 0.25, DOWN, "bd", "cf"),
        (EIGHT, 0.05, UP, "c", "b"),
        (EIGHT, 0.5, UP, "cefh", "abdg"),
        (dict.fromkeys("abcdefgh", 0.5), 0.25, UP, "gh", "ab"),
        # Whoever failed is replaced, however many there are.
        ({x: y for x, y in EIGHT.items() if x not in "abg"}, 0.25, UP, "abg", "de"),
        ({"c": 0.1}, 0.25, UP, "abdefgh", "c"),
        ({}, 0.25, UP, "", ""),
    ],
)
def test_the_weakest_go_on_from_the_strongest(
    scores: dict[str, float], share: float, objective: Objective, weak: str, strong: str
) -> None:
    told = generation(scores, share, objective)
    assert "".join(fork.trial for fork in told.forks) == weak
    assert {fork.parent for fork in told.forks} <= set(strong)
    assert told == generation(scores, share, objective)


KINDS = [
    Dimension.model_validate(x)
    for x in ([1, 2, 5], {"uniform": [0.1, 0.5]}, {"loguniform": [0.01, 1.0]}, {"randint": [1, 9]})
]


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.integers(0, 4))
def test_a_moved_setting_is_another_one_nearby_that_the_space_has(dimension: Dimension, seed: int, place: int) -> None:
    low, high = (1.0, 5.0) if dimension.listed else dimension.ends
    value: float = low + (high - low) * place / 4
    if dimension.kind == "randint":
        value = int(value)
    if dimension.listed:
        value = [1, 2, 5][place % 3]
    found = moved(np.random.default_rng(seed), dimension, value)
    assert isinstance(found, int | float)
    assert found != value
    assert low <= found <= high
    if dimension.listed:
        assert abs([1, 2, 5].index(int(found)) - [1, 2, 5].index(int(value))) == 1
    elif dimension.kind == "randint":
        assert abs(found - value) <= max(1, np.ceil(0.2 * value))
    else:
        assert 0.8 - 1e-9 <= found / value <= 1.2 + 1e-9


def test_a_fork_s_run_tells_its_whole_past() -> None:
    parent = load([SMOKE], ["rounds=9", "training.lr=0.1", "from_round.2.method.fraction=0.3"])
    child = forked(
        parent,
        parent,
        {"training.lr": 0.1, "method.fraction": 0.3},
        "child",
        {"training.lr": 0.1, "method.fraction": 0.2},
        4,
    )
    assert child.name == "child"
    assert child.model_dump()["training"] == parent.model_dump()["training"]
    assert {start: dict(x.method) for start, x in child.from_round.items()} == {
        2: {"fraction": 0.3},
        4: {"fraction": 0.2},
    }


def test_a_setting_that_applies_no_more_is_the_base_run_s_again() -> None:
    base = load([SMOKE], ["rounds=9", "training.clip_norm=2"])
    parent = load([SMOKE], ["rounds=9", "training.clip_norm=2", "training.momentum=0.7"])
    child = forked(base, parent, {"training.momentum": 0.7}, "child", {"training.clip_norm": None}, 4)
    assert child.from_round[4].training == {"momentum": 0.9, "clip_norm": None}


def test_the_line_of_the_best_member_goes_back_through_whom_it_went_on_from() -> None:
    first: dict[str, Sample] = {name: {"training.lr": float(n)} for n, name in enumerate("abc")}
    generations = [
        Generation(2, {}, (Fork("b", "a", {"training.lr": 7.0}),)),
        Generation(4, {}, (Fork("c", "b", {"training.lr": 8.0}), Fork("a", "b", {"training.lr": 9.0}))),
    ]
    line = line_of(History(first, generations, [], 6), "c")
    told = [(x.member, x.start, x.end, x.sample["training.lr"]) for x in line]
    assert told == [("a", 0, 2, 0.0), ("b", 2, 4, 7.0), ("c", 4, 6, 8.0)]


@pytest.mark.parametrize(
    ("sweep", "overrides", "told"),
    [
        (
            {"space": {"method.density": [0.1]}},
            [],
            "sweep.space.method.density: cannot change on the way, as a populat",
        ),
        ({"population": {"every": 4}}, [], "sweep.population.every: must be below rounds (4), got 4"),
        ({}, ["evaluate_every=2"], "sweep.population.every: must be a multiple of evaluate_every (2), got 1"),
        ({"space": {"training.lr": [0.1, 0.2, -1]}, "seed": 1}, [], "sweep.space.training.lr: input should be greater"),
        ({}, ["from_round.2.training.lr=1"], "from_round: is what a population finds; leave it out, or set it to null"),
        ({"samples": 1}, [], "sweep: samples: a population has two members or more; raise it"),
        ({"scheduler": "asha"}, [], "sweep: scheduler: a population replaces the weak by itself; leave it out, or"),
        ({"objectives": [{"figure": "bytes", "direction": "min"}]}, [], "sweep: no trial has a figure bytes; "),
    ],
)
def test_what_is_no_population_is_refused(
    tmp_path: Path, sweep: dict[str, object], overrides: list[str], told: str
) -> None:
    whole = {"search": "population", "samples": 4, "population": {"every": 1}, "space": {"training.lr": [0.1, 0.2]}}
    with pytest.raises(ConfigError) as refused:
        requested([preset(tmp_path, **{**whole, **sweep}), SMOKE], overrides)
    assert refused.value.problems[0].startswith(told)


def weights(folder: Path) -> str:
    told: str = json.loads((folder / "summary.json").read_text())["weights_sha256"]
    return told


@pytest.mark.ray
def test_a_population_that_was_killed_goes_on_and_each_member_is_a_run_that_can_be_made_again(tmp_path: Path) -> None:
    # Two can learn and two cannot; 1e30 fails, and goes on from one that did not.
    space = {"training.lr": [0.05, 0.1, 1e-6, 1e30]}
    aim = [{"figure": "test_loss", "direction": "min"}]
    path = preset(
        tmp_path,
        space=space,
        objectives=aim,
        search="population",
        samples=4,
        population={"every": 2, "anew": 0},
        retries=0,
        seed=3,
    )
    out = tmp_path / "out"
    words = [sys.executable, "-m", "tune", str(path), str(SMOKE), *QUICK, "rounds=6", f"out={out}"]
    process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 120
    while not list(out.glob("trials/*/checkpoints/000003.safetensors")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (first,) = Folder(out).generations()
    assert main(["resume", str(out)]) == 0
    folder = Folder(out)
    assert [x.round for x in folder.generations()] == [2, 4]
    assert folder.generations()[0] == first
    assert {trial.status for trial in folder.trials()} == {"finished"}
    again = tmp_path / "again"
    assert fedtiny(["run", str(out / "best.yaml"), f"out={again}"]) == 0
    best = yaml.safe_load((out / "best.yaml").read_text())["name"].removeprefix("smoke-")
    assert weights(again) == weights(folder.trial(best))
    assert "From whom the best member comes" in (out / "sweep.html").read_text()
