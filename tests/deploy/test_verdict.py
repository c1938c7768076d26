"""An export says whether the run's budget is met, by what was measured."""

import json
import shutil
from pathlib import Path

import pytest

from fedtiny.__main__ import main
from fedtiny.config.budget import Budget
from fedtiny.deploy.row import Row
from fedtiny.deploy.verdict import verdict
from tests.conftest import Runner

ROWS = [Row("c float32", flash_bytes=9_000, ram_bytes=400), Row("c int8", flash_bytes=5_001, ram_bytes=100)]


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (
            Budget(flash_bytes=5_001, ram_bytes=200),
            "met by c int8, measured in a Cortex-M4: flash_bytes 5,001 of 5,001",
        ),
        (Budget(flash_bytes=5_000), "not met by c int8, measured in a Cortex-M4: flash_bytes 5,001 of 5,000 (over)"),
        (Budget(ram_bytes=99), "ram_bytes 100 of 99 (over)"),
        (Budget(ram_bytes=400, values="float32"), "met by c float32, measured in a Cortex-M4: ram_bytes 400 of 400"),
    ],
)
def test_a_budget_is_held_against_the_program_that_it_is_of(budget: Budget, said: str) -> None:
    (line,) = verdict(budget, ROWS)
    assert said in line


def test_what_was_not_measured_is_told() -> None:
    budget = Budget(flash_bytes=5_000)
    (line,) = verdict(budget, ROWS[:1])
    assert "add --format c --values int8" in line
    (line,) = verdict(budget, [Row("c int8")])
    assert "needs arm-none-eabi-gcc" in line


def test_without_a_limit_of_flash_or_ram_there_is_nothing_to_say() -> None:
    assert verdict(None, ROWS) == verdict(Budget(flops=5), ROWS) == []


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc")
def test_an_export_writes_and_measures_what_the_budget_is_of(
    make_run: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("rounds=2", "budget={flash_bytes: 5_500, ram_bytes: 4_000}")
    assert main(["export", str(tmp_path / "run"), "--format", "c"]) == 0
    told = json.loads((tmp_path / "run" / "export" / "export.json").read_text())
    assert [row["name"] for row in told["rows"]][2:] == ["c float32", "c int8"]
    assert told["remarks"][0].startswith("budget: met by c int8")
    assert told["remarks"][0] in capsys.readouterr().out
