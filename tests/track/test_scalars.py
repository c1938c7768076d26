from dataclasses import replace

from fedtiny.track.scalars import Scalars, flat
from tests.track.test_report import FIRST


def test_a_record_becomes_numbers_and_costs_add_up() -> None:
    scalars = Scalars()
    blind = replace(FIRST, round=1, test_accuracy=None, dropped={"1": "late"}, exchanged={"a.weight": 2, "b.weight": 3})
    first, second = scalars.of(FIRST), scalars.of(blind)
    assert first["test_accuracy"] == 0.5
    assert "test_accuracy" not in second
    assert (first["dropped"], second["dropped"], second["clients"], second["exchanged"]) == (0, 1, 2, 5)
    assert second["layer_density/a.weight"] == 0.2
    assert (second["upload_bytes"], second["so_far/upload_bytes"], second["so_far/bytes"]) == (100, 200, 440)
    assert (second["so_far/flops_rigl"], second["so_far/seconds"]) == (2e6, 2.0)
    assert all(isinstance(x, int | float) for x in (first | second).values())


def test_flat_joins_keys_and_keeps_numbers_and_words() -> None:
    told: dict[str, object] = {"a": {"b": {"c": 1}, "list": [1, 2]}, "name": "x", "none": None, "yes": True}
    assert flat(told) == {"a/b/c": 1, "name": "x", "yes": True}
    assert flat(told, ".") == {"a.b.c": 1, "name": "x", "yes": True}
