"""A device's room into a run's density and width, of real networks and real runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from fedtiny.__main__ import main
from fedtiny.config.budget import Budget
from fedtiny.config.load import ConfigError, load
from fedtiny.config.schema import RunConfig
from fedtiny.prepare import prepare
from fedtiny.sparse.cost import forward_flops
from tests.conftest import SMOKE


def smoke(*overrides: str) -> RunConfig:
    return load([SMOKE], [*overrides, "engine=dense"])


@pytest.mark.parametrize(
    ("method", "flops"),
    [("fedtiny", 15_000), ("prunefl", 30_000), ("feddst", 60_000), ("static", 30_000), ("small_dense", 30_000)],
)
def test_flops_of_the_network_are_within_the_budget_and_near_it(method: str, flops: int) -> None:
    told: list[str] = []
    prepared = prepare(smoke(f"method={{name: {method}}}", f"budget={{flops: {flops}}}"), told.append)
    config = prepared.config
    assert config.budget is not None
    assert config.budget.settled
    mask = config.method.sketch(prepared.network, np.random.default_rng(0)).mask
    took = forward_flops(prepared.network, mask)
    assert took <= flops
    assert took > (0.4 if method == "small_dense" else 0.9) * flops  # its width is a whole number
    assert f"flops {took:,.0f} of {flops:,} (binds)" in " ".join(told)


def test_a_run_keeps_to_its_budget_and_its_configuration_runs_again_to_the_bit(tmp_path: Path) -> None:
    budget = "budget={flops: 30_000, train_ram_bytes: 150_000}"
    assert main(["run", str(SMOKE), budget, "engine=dense", f"out={tmp_path / 'one'}"]) == 0
    written = yaml.safe_load((tmp_path / "one" / "config.yaml").read_text())
    assert written["budget"]["settled"] is True
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    rounds = [json.loads(line) for line in (tmp_path / "one" / "rounds.jsonl").read_text().splitlines()]
    assert all(x["memory_bytes"] + x["activation_bytes"] <= 150_000 for x in rounds)
    assert summary["density"] <= written["method"]["density"]
    assert main(["run", str(tmp_path / "one" / "config.yaml"), f"out={tmp_path / 'two'}"]) == 0
    again = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert again["weights_sha256"] == summary["weights_sha256"]


def test_a_network_whose_activations_do_not_fit_is_made_narrower() -> None:
    told: list[str] = []
    prepared = prepare(smoke("budget={train_ram_bytes: 100_000}"), told.append)
    assert prepared.config.model.width == 2
    assert any("width 3 would take train_ram_bytes" in line for line in told)


def test_what_fits_as_it_is_is_not_pruned() -> None:
    told: list[str] = []
    config = prepare(smoke("budget={flops: 1_000_000_000}"), told.append).config
    assert (config.method.target, config.model.width) == (1.0, 4)
    assert "budget: nothing binds: the network fits as it is, unpruned" in told


def test_show_says_what_was_chosen_and_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(SMOKE), "budget={flops: 30_000}"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# budget: density 0.")
    assert "(binds)" in shown.splitlines()[0]
    assert yaml.safe_load(shown)["budget"]["settled"] is True


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["budget={flops: 10}"], "budget.flops: must be at least "),
        (["budget={flash_bytes: 1000}"], "budget.flash_bytes: must be at least "),
        (["budget={device: cortex-m4, ram_bytes: 100}"], "budget.ram_bytes: must be at least "),
        (["budget={train_ram_bytes: 10, flops: 1_000_000}"], "budget.train_ram_bytes: must be at least "),
        (["budget={flops: 10}", "method={name: dense}"], "budget: chooses a density, and dense has none"),
    ],
)
def test_what_cannot_be_is_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as told:
        prepare(smoke(*overrides))
    (problem,) = told.value.problems
    assert problem.startswith(message)


def test_the_nearest_possible_budget_that_an_error_names_is_possible() -> None:
    with pytest.raises(ConfigError) as told:
        prepare(smoke("budget={flops: 10}"))
    least = str(told.value).partition("at least ")[2].partition(", what")[0].replace(",", "")
    assert prepare(smoke(f"budget={{flops: {least}}}")).config.model.width == 1


@pytest.mark.parametrize(
    ("told", "limits"),
    [
        ("cortex-m4", {"flash_bytes": 262_144, "ram_bytes": 65_536}),
        ({"device": "cortex-m4", "ram_bytes": 1000}, {"flash_bytes": 262_144, "ram_bytes": 1000}),
        ({"flops": "5e6"}, {"flops": 5e6}),
    ],
)
def test_a_device_is_its_limits_and_what_is_stated_comes_first(told: object, limits: dict[str, float]) -> None:
    budget = Budget.model_validate(told)
    assert budget.limits == limits
    assert Budget.model_validate(budget.model_dump(mode="json")) == budget


@pytest.mark.parametrize("told", ["cortex-m9", {}, {"settled": True}, {"flash_bytes": 0}])
def test_a_budget_without_a_limit_is_refused(told: object) -> None:
    with pytest.raises(ValueError, match=r"budget|flash_bytes"):
        Budget.model_validate(told)
