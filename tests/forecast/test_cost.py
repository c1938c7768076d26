"""`python -m fedtiny cost`."""

import json

import pytest

from fedtiny.__main__ import main
from fedtiny.config.load import ConfigError
from fedtiny.forecast.entrants import METHODS, entrants
from fedtiny.methods import Static
from fedtiny.track.results import number
from tests.conftest import SMOKE


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, object]]:
    assert main(["cost", str(SMOKE), *words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"how", "machine", "methods"}
    return {bill["method"]: bill for bill in answer["methods"]}


def test_all_methods_by_default_and_each_figure_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    bills = told(capsys)
    assert list(bills) == list(METHODS)
    for bill in bills.values():
        assert bill["rounds"] == 4
        seconds = bill["seconds"]
        assert isinstance(seconds, dict)
        parts = ("pretraining", "begin", "rounds", "evaluation", "server")
        assert seconds["total"] == pytest.approx(sum(seconds[part] for part in parts))
        assert 0 < seconds["total"] < 100
    dense, static = bills["dense"], bills["static"]
    assert number(dense, "upload_bytes") == 4 * 3 * number(dense, "upload_bytes_per_client_round")
    assert number(static, "upload_bytes") < number(dense, "upload_bytes")


def test_tables_with_a_row_a_method_say_what_is_measured_and_what_modelled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["cost", str(SMOKE), "methods=dense,fedtiny", "rounds=2", "method.adjust_every=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.strip("│ ").startswith(("dense ", "fedtiny ", "static "))]
    assert len(rows) == 4  # of two tables
    for word in ("measured: ", "modelled: ", "estimated: ", "fedtiny: the mask never moves"):
        assert sum(line.startswith(word) for line in lines) == 1


def test_overrides_go_to_the_methods_that_have_the_field() -> None:
    configs = {c.method.name: c.method for c in entrants([SMOKE], ["method.density=0.2", "method.score=random"])}
    assert configs["static"] == Static(density=0.2, score="random")
    fedtiny = configs["fedtiny"].model_dump()
    assert (fedtiny["density"], fedtiny["candidates"]) == (0.2, 3)  # the preset's own method keeps its settings
    assert entrants([SMOKE], ["methods=static"])[0].method == Static(density=0.05)  # others get its density
    assert entrants([SMOKE], ["methods=static", "method.name=dense"])[0].method == Static()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["methods=static,nope"], "methods: must be among dense, "),
        (["methods=dense,static", "method.direction=forward"], "method.direction: none of dense, static has it"),
        (
            ["methods=dense,static", "method.density=2"],
            "method.density: input should be less than or equal to 1, got 2",
        ),
        (["methods=dense", "rouds=3"], "rouds: there is no such key; did you mean rounds?"),
    ],
)
def test_what_is_wrong_is_told(words: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", str(SMOKE), *words]) == 2
    assert capsys.readouterr().err.startswith(f"config: {problem}")
    with pytest.raises(ConfigError):
        entrants([SMOKE], words)


def test_a_method_that_cannot_run_does_not_keep_the_others_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", str(SMOKE), "methods=dense,static", "method.density=0.0001", "--json"]) == 0
    printed = capsys.readouterr()
    assert [bill["method"] for bill in json.loads(printed.out)["methods"]] == ["dense"]
    assert printed.err.startswith("static: method: density must keep at least one weight")
    assert main(["cost", str(SMOKE), "methods=static", "method.density=0.0001"]) == 2
