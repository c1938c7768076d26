import math

import pytest

from tests.tune.fabricated import GRID, MIXED, trial
from tune.importance import importance
from tune.knobs import axis, knobs
from tune.wording import number, shown, words


def test_knobs_are_what_differs_and_the_seed_is_none() -> None:
    assert knobs(GRID) == ["method.density", "method.candidates"]
    assert knobs(MIXED) == ["method.name", "training.lr", "method.candidates"]
    assert knobs(MIXED[:1]) == []


def test_numbers_far_apart_are_on_a_logarithmic_axis() -> None:
    placed = axis("training.lr", MIXED)
    assert placed.positions == (-1.0, math.log10(0.05), -2.0)
    assert [text for _, text in placed.ticks] == ["0.01", "0.05", "0.1"]
    assert placed.span == (-2.0, -1.0)


def test_words_stand_side_by_side_and_an_absent_setting_below_all() -> None:
    assert axis("method.name", MIXED).positions == (0.0, 1.0, 1.0)
    placed = axis("method.candidates", MIXED)  # 10 to 50 is less than eight times: linear
    assert placed.positions == (10 - 0.15 * 40, 10.0, 50.0)
    assert placed.ticks == ((4.0, "-"), (10.0, "10"), (50.0, "50"))


def test_an_axis_is_never_empty() -> None:
    alone = axis("training.lr", [trial("a", 0.5, 1.0, training__lr=0.1)])
    low, high = alone.span
    assert low < 0.1 < high


def test_what_matters_is_important() -> None:
    finished = [x for x in GRID if x.status == "finished"]
    shares = importance(finished, "validation_accuracy")
    assert set(shares) == {"method.density", "method.candidates", "seed"}
    assert shares["method.density"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)
    assert importance(finished[:5], "validation_accuracy") == {}
    assert importance(finished, "density") == {}  # the same for all


def test_settings_that_only_some_have_are_important_too() -> None:
    shares = importance(MIXED * 3, "validation_accuracy")
    assert set(shares) == {"method.name", "training.lr", "method.candidates"}


def test_a_setting_of_many_values_takes_no_time_that_doubles_with_each() -> None:
    trials = [trial(str(n), (n * 7 % 64) / 64, 1.0, method__name=f"m{n % 40}", seed=n) for n in range(64)]
    assert set(importance(trials, "validation_accuracy")) == {"method.name", "seed"}


def test_wording() -> None:
    numbers = {0.0123: "0.0123", 12: "12", 9300.4: "9300", 12345: "12.3k", 999_999: "1M", 1.5e6: "1.5M", 0.0: "0"}
    assert {x: number(x) for x in numbers} == numbers
    assert [words(x) for x in (True, None, 0.05, 3, "erk")] == ["true", "null", "0.05", "3", "erk"]
    assert shown("validation_accuracy", 0.5) == "50.00 %"
    assert shown("bytes", None) == ""
