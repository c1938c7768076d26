from pathlib import Path

import pytest

from fedtiny.compare.grid import Cell, checked
from fedtiny.compare.request import Request, Variant, kinds, requested
from fedtiny.config.load import ConfigError
from fedtiny.fleets import Inline, RayActors
from tests.conftest import SMOKE

PRESET = SMOKE.parent / "compare" / "quickstart.yaml"


def asked(*words: str, presets: tuple[Path, ...] = (SMOKE,)) -> Request:
    return requested(presets, words)


def problems(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        checked(asked(*words), lambda text: None)
    return list(caught.value.problems)


def test_methods_densities_and_seeds_are_read_from_words() -> None:
    told = asked("methods=fedtiny,half=fedtiny:fraction=0:noise=0.1,static:allocation={name: erk}", "density=0.05,5e-3")
    assert told.variants == (
        Variant("fedtiny", "fedtiny", {}),
        Variant("half", "fedtiny", {"fraction": 0, "noise": 0.1}),
        Variant("static:allocation={name: erk}", "static", {"allocation": {"name": "erk"}}),
    )
    assert told.densities == (0.05, 0.005)
    assert told.seeds == (0, 1, 2)
    assert told.reference == "fedtiny"


def test_a_comparison_names_its_densities_itself_unless_a_budget_has_chosen_already() -> None:
    with pytest.raises(ConfigError, match=r"^budget: chooses a run's density.* got 'phone'$"):
        asked("methods=static", "density=0.1", "budget=phone")
    assert asked("methods=static", "density=0.1", "budget={device: phone, settled: true}").densities == (0.1,)


@pytest.mark.parametrize(
    ("word", "seeds"), [("seeds=2", (0, 1)), ("seeds=0,4", (0, 4)), ("seeds=[4]", (4,)), ("seeds=[7, 5]", (7, 5))]
)
def test_seeds_are_a_number_or_a_list(word: str, seeds: tuple[int, ...]) -> None:
    assert asked("methods=dense", word).seeds == seeds


def test_a_preset_may_ask_and_words_win_over_it() -> None:
    told = asked("seeds=1", "methods=dense,static", presets=(SMOKE, PRESET))
    assert [x.label for x in told.variants] == ["dense", "static"]
    assert told.densities == (0.05, 0.01, 0.005, 0.003)
    assert told.reference == "static"  # the first that is compared at a density
    whole = asked(presets=(SMOKE, PRESET))
    assert [x.label for x in whole.variants] == ["fedtiny", "selection only", "progressive only", "static", "dense"]
    assert whole.variants[2].settings == {"candidates": 1, "noise": 0}


def test_a_cell_has_its_method_its_density_and_its_seed_and_one_without_a_density_stands_once_a_seed() -> None:
    grid, cells = checked(
        asked("methods=fedtiny,a b=fedtiny:fraction=0,static,dense", "density=0.1,0.05", "seeds=2"), lambda text: None
    )
    names = [cell.name for cell in cells]
    assert names[:3] == ["fedtiny-0.1-0", "a_b-0.1-0", "static-0.1-0"]
    assert names[-2:] == ["dense-0", "dense-1"]
    assert len(names) == len(set(names)) == 14
    assert grid.references == ("dense",)
    by_name: dict[str, Cell] = {cell.name: cell for cell in cells}
    config = by_name["a_b-0.05-1"].config
    assert (config.seed, config.name, config.method.target) == (1, "a_b-0.05-1", 0.05)
    # The preset's own settings of this method stay.
    assert config.method.model_dump()["adjust_every"] == 1
    assert config.method.model_dump()["fraction"] == 0
    assert by_name["fedtiny-0.05-1"].config.method.model_dump()["fraction"] == 0.15
    assert config.tracking.group == "smoke"


def test_a_setting_goes_to_the_methods_that_have_it_and_the_others_are_told() -> None:
    told: list[str] = []
    words = ("methods=fedtiny,static,dense", "density=0.1", "seeds=1", "method.noise=0.25", "method.score=random")
    _, cells = checked(asked(*words), told.append)
    settings = {cell.label: cell.config.method.model_dump() for cell in cells}
    assert settings["fedtiny"]["noise"] == 0.25
    assert settings["static"]["score"] == "random"
    assert "note: method.noise is no setting of static, dense: they run without it" in told
    assert "note: method.score is no setting of fedtiny, dense: they run without it" in told


def test_a_schedule_of_the_preset_goes_to_every_method_that_has_one_unless_it_is_told_otherwise() -> None:
    """The smoke preset moves FedTiny's mask every round until round 4; so do all, and nobody is told of it."""
    told: list[str] = []
    _, cells = checked(asked("methods=prunefl,feddst:adjust_every=2,static", "density=0.1", "seeds=1"), told.append)
    schedules = [[x.config.method.model_dump().get(key) for key in ("adjust_every", "stop_round")] for x in cells]
    assert schedules == [[1, 4], [2, 4], [None, None]]
    assert not any("is no setting of" in line for line in told)


def test_what_a_method_remarks_is_told_with_the_cells_it_is_about() -> None:
    told: list[str] = []
    checked(
        asked("methods=fedtiny,static", "density=0.1,0.05", "seeds=2", "rounds=2", "method.adjust_every=9"), told.append
    )
    assert any(
        x.startswith("note: the mask never moves") and x.endswith("(fedtiny at 0.1, fedtiny at 0.05)") for x in told
    )


def test_clients_run_inline_unless_a_fleet_is_named() -> None:
    words = (
        "methods=dense",
        "seeds=1",
        "data={name: synthetic}",
        "model={name: resnet8, width: 4}",
        "clients=2",
        "split={public: 20, validation: 20}",
    )
    (cell,) = checked(asked(*words, presets=()), lambda text: None)[1]
    assert isinstance(cell.config.fleet, Inline)
    (cell,) = checked(asked(*words, "fleet.name=ray", presets=()), lambda text: None)[1]
    assert isinstance(cell.config.fleet, RayActors)


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert problems(
        "methods=fedtini,fedtiny:x,static,static", "density=a", "seeds=0", "seed=3", "method.name=dense"
    ) == [
        "seed: a comparison names its seeds with seeds= (a number, or a list), got 3",
        "method.name: a comparison names its methods with methods=, got dense",
        f"methods: must be of {', '.join(sorted(kinds()))}; did you mean fedtiny? got 'fedtini'",
        "methods: a setting must be KEY=VALUE, such as static:score=random, got 'x'",
        "methods: each needs a label of its own, got static more than once",
        "density: must be numbers with commas between, got 'a'",
        "seeds: must be at least 1, got 0",
    ]
    assert problems("density=0.1") == ["methods: must be given, such as methods=fedtiny,static,dense"]
    assert problems("methods=static") == ["density: must be given, such as density=0.05,0.01,0.005"]
    assert problems("methods=static", "density=0.1", "method.scor=random") == [
        "method.scor: none of the methods has such a setting; did you mean score?"
    ]
    assert problems("methods=static,dense", "density=0.1", "reference=fedtiny") == [
        "reference: must be one of static, dense, got fedtiny"
    ]
    told = problems("methods=static,fedtiny:frction=0,dense", "density=2,0.0001,0.1", "rouds=3", "seeds=1")
    assert told[0] == "rouds: there is no such key; did you mean rounds?"
    assert (
        "method.density: input should be less than or equal to 1, got 2.0 (static at 2, fedtiny:frction=0 at 2)" in told
    )
    assert any(x.startswith("method: density must keep at least one weight") and "static at 0.0001" in x for x in told)
    assert any(x.startswith("method.frction: there is no such key; did you mean fraction?") for x in told)


def test_labels_that_make_one_folder_are_refused() -> None:
    (told,) = problems("methods=a b=static,a_b=static:score=random", "density=0.1", "seeds=1")
    assert told == "methods: the labels must differ in letters or digits: two of them make a_b-0.1-0"


def test_a_compare_section_is_checked() -> None:
    with pytest.raises(ConfigError) as caught:
        asked("compare.method.score=random", "compare.sedes=3", "methods=static", "density=0.1")
    assert caught.value.problems == (
        "compare.sedes: there is no such key; known are methods, density, seeds, reference, method",
    )
