"""What one cell came to: a line of `comparison.csv`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean

import yaml

from fedtiny.track.record import RoundRecord
from fedtiny.track.results import number
from fedtiny.track.sinks import read_records

__all__ = ["FIGURES", "Row", "read_row", "with_dense_memory"]

LAST = 5
"""Evaluated rounds that a mean over the last ones is of."""

FIGURES: Mapping[str, str] = {
    "test_accuracy": "share correct on the test set after the last round",
    "test_accuracy_last5": f"mean of the last {LAST} evaluated rounds",
    "validation_accuracy": "share correct on the validation set after the last round",
    "validation_accuracy_last5": f"mean of the last {LAST} evaluated rounds",
    "density": "kept / prunable weights, reached",
    "density_all": "parameters that are not pruned / all parameters",
    "parameters": "trainable numbers of the network",
    "upload_bytes": "measured, all clients, the whole run",
    "download_bytes": "measured, all clients, the whole run",
    "selection_bytes": "the part of both before the first round",
    "flops_round_max_rigl": "modelled, the busiest client's costliest round",
    "flops_round_max_fedrts": "the same in the other accounting",
    "flops_total_rigl": "modelled, the busiest client of each round, all rounds and the selection",
    "flops_total_fedrts": "the same in the other accounting",
    "dense_flops_round_max": "what the busiest client would make without pruning",
    "memory_bytes": "modelled, of a client beyond activations",
    "activation_bytes": "modelled, of a training step",
    "measured_bytes": "measured, of a training step beyond activations",
    "measured_peak_bytes": "measured, of a training step with activations",
    "seconds": "wall-clock, beside the other runs",
    "simulated_seconds": "modelled, on the devices described",
    "joules": "modelled, of all devices asked",
    "dropped": "clients of which nothing was used, all rounds",
}
"""Figure -> what it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A cell and what it came to.

    Attributes:
        label: Its method's.
        density: What it is compared at; None where the method has none.
        seed: Its seed.
        folder: Its run's folder, seen from the comparison's.
        failure: Why there is no result; empty if there is one.
        figures: Figure -> value, in the order of `FIGURES`; None where it is not known.
        records: One record a round.
        summary: The run's `summary.json`.
        settings: The run's `config.yaml`.
    """

    label: str
    density: float | None
    seed: int
    folder: str
    failure: str = ""
    figures: Mapping[str, float | None] = field(default_factory=dict)
    records: Sequence[RoundRecord] = ()
    summary: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)


def read_row(label: str, density: float | None, seed: int, folder: Path, root: Path, failure: str) -> Row:
    """Reads a cell's folder; `failure` is why it has no summary, if it has none."""
    row = Row(label, density, seed, str(folder.relative_to(root)))
    if not (folder / "summary.json").is_file():
        return replace(row, failure=failure or "not finished")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    records = read_records(folder / "rounds.jsonl", summary["rounds"])
    settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return replace(row, figures=_figures(summary, records), records=records, summary=summary, settings=settings)


def _figures(summary: Mapping[str, object], records: Sequence[RoundRecord]) -> dict[str, float | None]:
    def of(key: str) -> float | None:
        return None if summary[key] is None else number(summary, key)

    most, engine = summary["flops_per_round_max"], summary["engine"]
    assert isinstance(most, Mapping)
    assert isinstance(engine, Mapping)
    sparse = engine["name"] == "sparse"
    measured = engine.get("sparse_bytes" if sparse else "dense_bytes")
    peak = engine.get("sparse_peak_bytes" if sparse else "dense_peak_bytes")
    before = number(summary, "selection_flops_max")
    told = {key: of(key) for key in FIGURES if key in summary}
    told |= {
        "test_accuracy_last5": _last([x.test_accuracy for x in records]),
        "validation_accuracy_last5": _last([x.validation_accuracy for x in records]),
        **{f"flops_round_max_{name}": float(flops) for name, flops in most.items()},
        **{f"flops_total_{name}": before + sum(x.flops[name] for x in records) for name in most},
        "dense_flops_round_max": of("dense_flops_per_round_max"),
        "memory_bytes": of("memory_bytes_max"),
        "activation_bytes": of("activation_bytes_max"),
        "measured_bytes": None if measured is None else float(measured),
        "measured_peak_bytes": None if peak is None else float(peak),
    }
    return {key: told[key] for key in FIGURES}


def _last(told: Sequence[float | None]) -> float | None:
    known = [x for x in told if x is not None][-LAST:]
    return mean(known) if known else None


def with_dense_memory(rows: Sequence[Row]) -> list[Row]:
    """The rows; a dense run's measured memory is that of the dense step which a pruned run measured beside its own.

    A run that prunes nothing measures no engine. The dense step of the same network and batch is measured all the same,
    by any pruned run.
    """
    known: dict[str, Row] = {}
    for row in rows:
        engine = row.summary.get("engine")
        if isinstance(engine, Mapping) and "dense_bytes" in engine:
            known.setdefault(_step(row), row)
    filled = []
    for row in rows:
        other = known.get(_step(row)) if row.summary else None
        whole = row.figures.get("density") == 1 and row.figures.get("measured_bytes") is None
        if other is not None and whole:
            engine = other.summary["engine"]
            assert isinstance(engine, Mapping)
            more = {
                "measured_bytes": float(engine["dense_bytes"]),
                "measured_peak_bytes": float(engine["dense_peak_bytes"]),
            }
            row = replace(row, figures={**row.figures, **more})
        filled.append(row)
    return filled


def _step(row: Row) -> str:
    """What a training step is about."""
    protocol, training = row.summary.get("protocol"), row.settings.get("training")
    batch = training.get("batch") if isinstance(training, Mapping) else None
    return json.dumps([protocol.get("model") if isinstance(protocol, Mapping) else None, batch], sort_keys=True)
