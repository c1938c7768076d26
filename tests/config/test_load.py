from pathlib import Path
from typing import get_args

import pytest
import yaml

from fedtiny.config.load import ConfigError, load, override
from fedtiny.config.schema import RunConfig
from fedtiny.config.show import shown
from fedtiny.methods import AnyMethod, FedTiny, Static

NAMES = [kind.model_fields["name"].default for kind in get_args(get_args(AnyMethod)[0])]
CONFIGS = Path(__file__).parent.parent.parent / "configs"


def problems(*overrides: str, presets: tuple[Path, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(presets, overrides)
    return list(caught.value.problems)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_later_wins(tmp_path: Path) -> None:
    a = write(tmp_path / "a.yaml", "rounds: 5\ntraining: {lr: 0.3, epochs: 2}\n")
    b = write(tmp_path / "b.yaml", "training: {lr: 1e-3}\n")
    config = load([a, b], ["rounds=7", "seed=3", "seed=4"])
    assert (config.rounds, config.seed) == (7, 4)
    # YAML reads 1e-3 as a string; the schema makes it a number. The rest of the mapping stays.
    assert (config.training.lr, config.training.epochs) == (0.001, 2)


def test_a_mapping_whose_name_changes_replaces_the_one_before(tmp_path: Path) -> None:
    a = write(tmp_path / "a.yaml", "method: {name: fedtiny, density: 0.2, adjust_every: 3}\n")
    assert load([a], ["method.name=static"]).method == Static()
    assert load([a], ["method.adjust_every=4"]).method == FedTiny(density=0.2, adjust_every=4)


def test_no_override_is_lost_to_a_change_of_name() -> None:
    assert load([], ["method.density=0.3", "method.name=static"]).method == Static(density=0.3)


def test_a_bare_off_is_off() -> None:
    assert load([], ["tracking.wandb=off"]).tracking.wandb == "off"
    assert load([], ["tracking={wandb: off}"]).tracking.wandb == "off"
    assert problems("tracking.wandb=on") == [
        "tracking.wandb: input should be 'auto', 'offline' or 'off', got True",
    ]


def test_override_sets_dotted_keys() -> None:
    config = override(RunConfig(), {"method.density": 0.2, "partition.alpha": 1})
    assert config.method == FedTiny(density=0.2)
    with pytest.raises(ConfigError, match="did you mean density"):
        override(config, {"method.densty": 0.2})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sed=3", "sed: there is no such key; did you mean seed?"),
        ("method.densty=0.1", "method.densty: there is no such key; did you mean density?"),
        ("method.allocation.name=erk", "method.allocation: there is no such key; "),
        ("method.density=2", "method.density: input should be less than or equal to 1, got 2"),
        ("method.density=0", "method.density: input should be greater than 0, got 0"),
        ("rounds=many", "rounds: input should be a valid integer, unable to parse string as an integer, got 'many'"),
        (
            "method.name=fedtny",
            f"method.name: must be one of {', '.join(NAMES)}; did you mean fedtiny? got 'fedtny'",
        ),
        ("data.name=image_folder", "data.path: must be given"),
        ("fleet.actors=0", "fleet.actors: input should be "),
        ("model=3", "model: input should be a valid dictionary"),
        ("name=a/b", "name: string should match pattern"),
        ("seed", "seed: an override must be key=value, such as method.density=0.05"),
        ("=3", "=3: an override must be key=value"),
        ("seed=[", "seed: is not YAML ("),
    ],
)
def test_each_error_is_one_line_that_says_rule_value_and_way_out(text: str, line: str) -> None:
    assert any(problem.startswith(line) for problem in problems(text)), problems(text)
    assert all("\n" not in problem for problem in problems(text))


def test_all_errors_are_told_at_once_with_the_preset_they_stand_in(tmp_path: Path) -> None:
    preset = write(tmp_path / "bad.yaml", "rouds: 5\ntraining: {lr: -1}\n")
    told = problems("method.density=2", presets=(preset, tmp_path / "absent.yaml"))
    assert told == [
        f"{tmp_path / 'absent.yaml'}: there is no such preset",
        f"training.lr: input should be greater than 0, got -1 (in {preset})",
        "method.density: input should be less than or equal to 1, got 2",
        f"rouds: there is no such key; did you mean rounds? (in {preset})",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [", "is not YAML ("), ("- 1\n- 2\n", "must be a mapping of keys to values, got list"), ("3: 4", "must be a")],
)
def test_a_preset_that_is_no_mapping_is_refused(tmp_path: Path, text: str, line: str) -> None:
    (told,) = problems(presets=(write(tmp_path / "bad.yaml", text),))
    assert told.startswith(f"{tmp_path / 'bad.yaml'}: {line}")


def test_an_unreadable_preset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in problems(presets=(tmp_path / "binary.yaml",))[0]
    assert "cannot be read" in problems(presets=(tmp_path,))[0]


def test_an_empty_preset_says_nothing(tmp_path: Path) -> None:
    assert load([write(tmp_path / "empty.yaml", "# nothing\n")]) == RunConfig()


@pytest.mark.parametrize(
    "preset",
    [x for x in sorted(CONFIGS.rglob("*.yaml")) if x.parent.name not in ("cluster", "compare", "sweep")],
    ids=lambda path: path.stem,
)
def test_every_preset_loads_and_what_show_prints_is_the_same_configuration(preset: Path, tmp_path: Path) -> None:
    config = load([preset])
    page = shown(config)
    assert load([write(tmp_path / "shown.yaml", page)]) == config
    assert RunConfig.model_validate(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))) == config


def test_show_describes_every_field() -> None:
    lines = shown(RunConfig()).splitlines()
    for i, line in enumerate(lines):
        if line.strip().startswith("#") or line.strip().startswith("name:"):
            continue
        assert lines[i - 1].strip().startswith("#"), line


@pytest.mark.parametrize(
    ("overrides", "name", "density"),
    [
        (["method.density=0.2", "method.name=static"], "static", 0.2),
        (["method={name: fedtiny, density: 0.1}", "method.name=static"], "static", 0.01),
        (["method.name=static", "method={name: fedtiny, density: 0.1}"], "fedtiny", 0.1),
        (["method.name=static", "method.density=0.3", "method.name=fedtiny"], "fedtiny", 0.3),
    ],
)
def test_later_wins_and_a_name_comes_before_its_fields(overrides: list[str], name: str, density: float) -> None:
    method = load([], overrides).method
    assert (method.name, method.target) == (name, density)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("name=2026-13-45", "name: is not YAML (month must be in 1..12)"),
        ("seed=1180591620717411303424", "seed: "),
        ("seed=-1", "seed: "),
        ("training.lr=.inf", "training.lr: "),
        ("pretraining.lr_schedule=cosine", "pretraining.lr_schedule: "),
        ("engine=fast", "engine.name: "),
    ],
)
def test_values_that_would_fail_later_are_refused_now(override: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([], [override])
    (problem,) = caught.value.problems
    assert problem.startswith(told)


def test_a_wrong_name_hides_nothing_else() -> None:
    with pytest.raises(ConfigError) as caught:
        load([], ["method.name=fedtny", "clients=5000"])
    assert caught.value.rest is not None
    assert caught.value.rest.clients == 5000


@pytest.mark.parametrize("name", ["auto", "sparse", "dense"])
def test_an_engine_is_named_by_a_word_or_a_mapping(name: str) -> None:
    assert load([], [f"engine={name}"]).engine == load([], [f"engine={{name: {name}}}"]).engine
    assert load([], [f"engine={name}"]).engine.name == name
