from dataclasses import replace

from fedtiny.compare.figures import curves, front, layers, pareto
from tests.compare.fabricated import RESULTS


def test_the_front_is_what_nothing_beats_at_its_cost() -> None:
    points = [(1.0, 50.0), (2.0, 40.0), (2.0, 60.0), (3.0, 60.0), (4.0, 70.0), (5.0, 69.0)]
    assert front(points) == [(1.0, 50.0), (2.0, 60.0), (4.0, 70.0)]
    assert front([]) == []


def test_every_method_is_in_every_plot_of_costs_that_are_known() -> None:
    figure = pareto(RESULTS)
    names = [trace.name for trace in figure.data]
    # Density, bytes, FLOPs, memory, wall-clock; nothing was simulated.
    assert names.count("ours") == names.count("whole") == names.count("Pareto front") == 5
    assert all(axis.type == "log" for axis in figure.select_xaxes() if axis.title.text)
    (ours,) = [trace for trace in figure.data if trace.name == "ours" and trace.showlegend]
    assert list(ours.x) == [0.005, 0.05]
    assert list(ours.y) == [70.0, 91.0]


def test_curves_are_means_with_a_band_from_the_least_to_the_most() -> None:
    figure = curves(RESULTS)
    band, line = figure.data[:2]
    assert list(line.x) == [1, 2]
    assert list(line.y) == [50.0, 91.0]
    assert list(band.y) == [50.0, 92.0, 90.0, 50.0]
    by_bytes = figure.data[3]
    assert list(by_bytes.x) == [220.0, 440.0]


def test_layers_stand_side_by_side() -> None:
    figure = layers(RESULTS)
    assert figure is not None
    (heat,) = figure.data
    assert list(heat.y) == ["a", "b"]
    assert list(heat.x) == ["ours<br>5 %", "theirs_&_co<br>5 %", "ours<br>0.5 %", "theirs_&_co<br>0.5 %"]
    assert [list(line) for line in heat.text] == [["20"] * 4, ["5"] * 4]
    dense = [replace(x, records=[replace(r, layer_densities={"a": 1.0}) for r in x.records]) for x in RESULTS.rows]
    assert layers(replace(RESULTS, rows=dense)) is None
