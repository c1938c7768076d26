"""What a sweep is asked for, before any Ray."""

from pathlib import Path

import numpy as np
import pytest
import ray
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtiny.config.load import ConfigError, load
from fedtiny.config.schema import RunConfig
from tests.conftest import SMOKE
from tune.__main__ import main
from tune.constraint import Constraint
from tune.objective import Objective
from tune.request import configured, listed, requested
from tune.results import best
from tune.space import Dimension, drawn, grid, picked
from tune.sweep import Sweep
from tune.trial import Trial


def preset(folder: Path, **sweep: object) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"sweep": sweep}), encoding="utf-8")
    return path


def problems(folder: Path, *overrides: str, **sweep: object) -> list[str]:
    with pytest.raises(ConfigError) as error:
        requested([preset(folder, **sweep), SMOKE], overrides)
    return list(error.value.problems)


def test_a_grid_is_all_combinations_and_a_key_is_left_out_where_its_condition_does_not_hold(tmp_path: Path) -> None:
    space = {
        "method.candidates": {"grid": [1, 3], "when": {"method.name": "fedtiny"}},
        "method.name": ["fedtiny", "static"],
        "method.density": ["1e-1"],
    }
    request = requested([preset(tmp_path, space=space), SMOKE])
    assert listed(request.sweep, request.base) == [
        {"method.name": "fedtiny", "method.density": 0.1, "method.candidates": 1},
        {"method.name": "fedtiny", "method.density": 0.1, "method.candidates": 3},
        {"method.name": "static", "method.density": 0.1},
    ]
    assert configured(request.base, "0000", {"method.name": "static", "method.density": 0.1}).method.name == "static"


def test_keys_that_go_together_take_their_values_together(tmp_path: Path) -> None:
    request = requested([preset(tmp_path, space={"clients, cohort": [[3, 2], [2, 1]]}), SMOKE])
    assert listed(request.sweep, request.base) == [{"clients": 3, "cohort": 2}, {"clients": 2, "cohort": 1}]
    told = problems(tmp_path, space={"clients, cohort": [[3, 2, 1]]})
    assert told == ["sweep: clients, cohort: 2 keys that go together need lists of as many values, got [3, 2, 1]"]


def test_presets_are_about_the_quickstart() -> None:
    folder = SMOKE.parent
    for name, trials in {"density": 15, "bn_candidates": 12, "schedule": 18, "all": 27}.items():
        request = requested([folder / "sweep" / f"{name}.yaml", folder / "quickstart.yaml"])
        assert len(listed(request.sweep, request.base)) == trials


def test_the_preset_of_clients_stands_by_itself() -> None:
    request = requested([SMOKE.parent / "sweep" / "clients.yaml"])
    samples = listed(request.sweep, request.base)
    assert [x["clients"] for x in samples] == [10, 30, 100, 300, 1000]


def test_what_is_written_down_asks_for_the_same(tmp_path: Path) -> None:
    space = {"training.lr": {"loguniform": [0.001, 0.1], "when": {"method.name": ["fedtiny"]}}, "seed": [0, 1]}
    asked = preset(tmp_path, space=space, search="random", samples=3, constraints=["density <= 0.1"], scheduler="asha")
    request = requested([asked, SMOKE], ["sweep.seed=4"])
    again = tmp_path / "again.yaml"
    again.write_text(request.told(), encoding="utf-8")
    assert requested([again]) == request


@given(st.integers(0, 2**32), st.tuples(st.integers(-5, 5), st.integers(6, 20)))
@settings(max_examples=50, deadline=None)
def test_what_is_drawn_lies_in_its_range(seed: int, ends: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    low, high = ends
    for kind in ("uniform", "randint"):
        value = picked(rng, Dimension.model_validate({kind: ends}))
        assert isinstance(value, int if kind == "randint" else float)
        assert low <= value <= high
    value = picked(rng, Dimension.model_validate({"loguniform": [0.001, high]}))
    assert isinstance(value, float)
    assert 0.001 <= value <= high


def test_a_random_search_draws_the_same_however_many_it_draws(tmp_path: Path) -> None:
    space = {"method.density": {"uniform": [0.01, 0.1]}}
    few, many = (requested([preset(tmp_path, space=space, search="random", samples=n), SMOKE]) for n in (2, 4))
    assert listed(many.sweep, many.base)[:2] == listed(few.sweep, few.base)


def test_conditions_in_a_circle_are_refused() -> None:
    space = {key: Dimension(kind="grid", values=(1,), when={other: 1}) for key, other in (("a", "b"), ("b", "a"))}
    with pytest.raises(ValueError, match="depend on each other"):
        grid(space, RunConfig())


def test_a_misspelt_key_is_told_with_its_neighbour_and_ray_is_not_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = preset(tmp_path, space={"method.densty": [0.1]})
    assert main([str(path), str(SMOKE), f"out={tmp_path / 'out'}"]) == 2
    told = capsys.readouterr().err
    assert told == "config: sweep.space.method.densty: there is no such key; did you mean density?\n"
    assert not ray.is_initialized()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ({"space": {"method.density": [0.1, 2.0]}}, "sweep.space.method.density: "),
        ({"space": {"seed": {"unifrom": [1, 2]}}}, "sweep.space.seed: must be a list for a grid"),
        ({"space": {"seed": {"randint": [2, 1]}}}, "sweep.space.seed: randint must go upwards"),
        ({"space": {"seed": {"randint": [1, 2]}}}, "sweep: search: a grid needs lists, and seed is a range"),
        ({"space": {"seed": [1]}, "search": "random"}, "sweep: samples: must be given for search=random"),
        ({"space": {"seed": [1]}, "sampls": 3}, "sweep.sampls: there is no such key; did you mean samples?"),
        ({"space": {"seed": [1]}, "constraints": ["density < 1"]}, "sweep.constraints.0: must be FIGURE <= NUMBER"),
        ({"space": {"seed": [1]}, "constraints": ["densit <= 1"]}, "sweep: no trial has a figure densit; did you mean"),
        (
            {"space": {"seed": [1]}, "scheduler": {"name": "asha", "on": "bytes"}},
            "sweep.scheduler: grace must be",
        ),
        ({"space": {"fleet.actors": [1, 2]}}, "sweep.space.fleet.actors: how trials are run"),
        ({"space": {"training.lr": [0.1], "method.density": [0.0001]}}, "method: "),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(tmp_path: Path, sweep: dict[str, object], told: str) -> None:
    assert problems(tmp_path, **sweep)[0].startswith(told)


def test_a_figure_of_validation_needs_examples_to_validate_on(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "split.validation=0", space={"seed": [0]})
    assert problem.startswith("sweep.objectives: validation_accuracy needs examples")


def test_a_trial_that_is_larger_than_the_machine_is_refused_before_ray_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = preset(tmp_path, space={"seed": [0, 1]})
    assert main([str(path), str(SMOKE), "fleet.name=ray", "fleet.actors=5000", f"out={tmp_path / 'out'}"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("config: fleet: a trial (one driver and 5000 actors) takes 5000 CPUs, and this machine has ")
    assert told.endswith("; lower fleet.actors or fleet.cpus\n")
    assert not ray.is_initialized()


def test_the_best_trial_keeps_the_constraints_and_has_ended_well() -> None:
    def trial(name: str, accuracy: float, density: float, status: str = "finished") -> Trial:
        figures = {"validation_accuracy": accuracy, "density": density}
        return Trial(name, {}, "stopped" if status == "stopped" else "finished", figures=figures)

    sweep = Sweep.model_validate({"space": {"seed": [0]}, "constraints": ["density <= 0.0_1"]})
    trials = [trial("a", 0.9, 0.02), trial("b", 0.8, 0.01), trial("c", 0.7, 0.01), trial("d", 0.95, 0.01, "stopped")]
    found = best(trials, sweep)
    assert found is not None
    assert found.name == "b"
    assert best(trials[:1], sweep) is None
    assert sweep.objectives == (Objective(figure="validation_accuracy", direction="max"),)


def test_a_constraint_is_broken_by_so_much() -> None:
    most = Constraint.model_validate("memory_bytes <= 512_000")
    assert (most.excess({"memory_bytes": 512_001}), most.holds({"memory_bytes": 512_000})) == (1, True)
    least = Constraint.model_validate("test_accuracy >= 0.5")
    assert least.holds({"test_accuracy": 0.5})
    assert not least.holds({})
    assert str(least) == "test_accuracy >= 0.5"


def test_drawn_values_follow_their_conditions() -> None:
    space = {
        "method.name": Dimension(kind="choice", values=("static",)),
        "method.candidates": Dimension(kind="randint", values=(1, 5), when={"method.name": "fedtiny"}),
    }
    assert drawn(space, load([SMOKE]), lambda key, dimension: dimension.values[0]) == {"method.name": "static"}
