"""The verdict on whether runs had the same conditions, from fabricated records."""

from collections.abc import Mapping
from dataclasses import replace

from fedtiny.compare.page import verdict
from fedtiny.compare.protocol import Finding, findings
from fedtiny.compare.row import Row
from tests.compare.fabricated import row

ROWS = [row(label, 0.05, seed, 0.5) for label in ("a", "b") for seed in (0, 1)]


def changed(row: Row, **more: object) -> Row:
    protocol = row.summary["protocol"]
    assert isinstance(protocol, Mapping)
    return replace(row, summary={**row.summary, "protocol": {**protocol, **more}})


def kinds(rows: list[Row]) -> dict[str, str]:
    return {x.what: x.kind for x in findings(rows)}


def test_runs_that_share_all_are_told_to() -> None:
    told = findings(ROWS)
    assert {x.kind for x in told} == {"same"}
    assert verdict(told) == "All runs had the same conditions."
    assert findings([]) == []


def test_what_differs_within_a_seed_is_named() -> None:
    for key, what in (
        ("data_sha256", "data set"),
        ("partition_sha256", "who holds which example (partition, public and validation)"),
        ("initial_weights_sha256", "initial weights"),
        ("pretrained_weights_sha256", "pretrained weights"),
    ):
        rows = [*ROWS[:3], changed(ROWS[3], **{key: "other"})]
        told = kinds(rows)
        assert told.pop(what) == "differs"
        assert set(told.values()) == {"same"}
    assert "seed 1: 1 runs agree, but not b at 0.05 (seed 1)" in findings(rows)[3].text
    assert "must not be compared as they are: they differ in pretrained weights" in verdict(findings(rows))


def test_other_settings_or_other_clients_differ() -> None:
    other = replace(ROWS[3], settings={**ROWS[3].settings, "rounds": 9})
    assert kinds([*ROWS[:3], other])["rounds, optimizer, budget and all other settings"] == "differs"
    records = [replace(x, clients=(0,)) for x in ROWS[3].records]
    told = kinds([*ROWS[:3], replace(ROWS[3], records=records)])
    assert told["clients asked in each round (cohorts)"] == "differs"


def test_a_device_that_was_asked_and_came_late_was_asked() -> None:
    records = [replace(x, clients=(0,), late=(1,)) for x in ROWS[3].records]
    told = kinds([*ROWS[:3], replace(ROWS[3], records=records)])
    assert told["clients asked in each round (cohorts)"] == "same"


def test_a_network_of_its_own_is_the_methods_own() -> None:
    own = [changed(x, model={"name": "resnet8", "width": 2}, initial_weights_sha256="other") for x in ROWS[2:]]
    told = findings([*ROWS[:2], *own])
    assert {x.what: x.kind for x in told if x.kind != "same"} == {"network": "own"}
    assert (
        verdict(told)
        == "All runs had the same conditions, but for what their methods or densities bring with them, named below."
    )


def test_local_training_of_its_own_is_shown() -> None:
    records = [replace(x, own_training={"epochs": 2, "extra": 0.5}) for x in ROWS[3].records]
    told = findings([*ROWS[:3], replace(ROWS[3], records=records)])
    assert Finding("local training", "own", "b sets epochs, extra itself, as is its method") in told
