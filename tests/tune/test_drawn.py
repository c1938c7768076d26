"""What the figures of a sweep's page are made of, against numbers worked by hand."""

from dataclasses import replace

import pytest

from tests.tune.fabricated import ACCURACY, BYTES, CLIENTS, GRID, MIXED, trial
from tune.effects import against_knobs
from tune.fronts import against_costs
from tune.parallel import parallel
from tune.scaling import against_clients

POINTS = [trial("a", 0.5, 10.0, x=1), trial("b", 0.6, 20.0, x=2), trial("c", 0.55, 30.0, x=3)]


def test_the_front_is_of_finished_trials() -> None:
    early = replace(trial("d", 0.9, 1.0, x=4), status="stopped")
    figure = against_costs([*POINTS, early], [ACCURACY, BYTES])
    assert figure is not None
    by_name = {trace.name: trace for trace in figure.data if trace.xaxis == "x"}
    assert sorted(by_name) == ["best trade-offs of all objectives", "finished", "front of the two", "stopped early"]
    assert list(by_name["best trade-offs of all objectives"].x) == [10.0, 20.0]
    assert by_name["best trade-offs of all objectives"].y == pytest.approx([50, 60])
    assert list(by_name["finished"].x) == [30.0]
    assert list(by_name["stopped early"].x) == [1.0]


def test_one_cost_of_each_kind_is_drawn_if_it_varies() -> None:
    figure = against_costs(POINTS, [ACCURACY])
    assert figure is not None
    titles = [axis.title.text for axis in figure.select_xaxes() if axis.title.text]
    assert titles == [
        "bytes up, all clients (measured)",
        "flops per round max, rigl (modelled)",
        "client memory beyond activations, bytes (modelled)",
    ]  # seconds and density are the same for all
    assert against_costs([replace(x, figures={"validation_accuracy": 0.5}) for x in POINTS], [ACCURACY]) is None


def test_the_band_goes_from_the_least_seed_to_the_best() -> None:
    finished = [x for x in GRID if x.status == "finished"]
    figure = against_knobs(finished, ACCURACY)
    assert figure is not None
    band, line, points = (trace for trace in figure.data if trace.xaxis == "x2")  # method.candidates
    assert list(line.x) == [1, 10, 50]
    # One candidate: 50, 60 and 70 % with seed 0, a point more with each seed.
    assert line.y[0] == pytest.approx(61)
    assert (band.y[0], band.y[-1]) == (pytest.approx(62), pytest.approx(60))
    # Ten candidates are 2 points better; of seed 1 none of the three is finished.
    assert line.y[1] == pytest.approx(63)
    assert len(points.x) == len(finished)


def test_a_line_is_a_trial_and_bright_is_good() -> None:
    figure = parallel(MIXED, [ACCURACY])
    worst, _, best = ([*trace.y[:-1]] for trace in figure.data if trace.mode == "lines+markers")
    assert worst == [0.0, 1.0, 0.0, 0.0]  # static, 0.1, no candidates
    assert best == [1.0, 0.0, 1.0, 1.0]  # fedtiny, 0.01, 50
    down = parallel(POINTS, [BYTES])
    assert next(iter(down.data)).text[0].startswith("c")  # most bytes: drawn first, darkest


def test_clients_have_bytes_and_seconds_of_a_round() -> None:
    figure = against_clients(CLIENTS, ACCURACY)
    assert figure is not None
    accuracy, seconds, sent, memory = (
        next(trace for trace in figure.data if trace.mode == "lines" and trace.xaxis == axis)
        for axis in ("x", "x2", "x3", "x4")
    )
    assert list(accuracy.x) == [10, 30, 100, 300, 1000]
    assert accuracy.y[0] == pytest.approx(100 * (0.9 - 10 / 5000 + 0.005))
    assert seconds.y[0] == pytest.approx(0.6)  # 6 s, 10 rounds
    assert sent.y[0] == pytest.approx(3e4)  # 1e5 up and 2e5 down, 10 rounds
    assert memory.y[0] == pytest.approx(1000 + 1e4)
    assert against_clients(GRID, ACCURACY) is None
