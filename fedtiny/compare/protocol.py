"""Whether runs that are compared had the same conditions, read from what they wrote down."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fedtiny.compare.row import Row

__all__ = ["Finding", "findings"]

# What belongs to a cell itself, or is shown in a line of its own.
_OWN = ("name", "seed", "method", "engine", "fleet", "tracking")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was compared, and how it fell out.

    Attributes:
        what: What runs should share.
        kind: same; own is a difference that a method or a density brings with it; differs is one that should not be.
        text: The particulars.
    """

    what: str
    kind: Literal["same", "own", "differs"]
    text: str


def findings(rows: Sequence[Row]) -> list[Finding]:
    """A finding for each thing that the finished runs of a comparison should share."""
    done = [row for row in rows if row.summary]
    if not done:
        return []
    own = _own_networks(done)
    common = [row for row in done if row.label not in own]
    found = [
        _shared("data set", done, lambda x: _protocol(x, "data_sha256"), by_seed=False),
        _shared("who holds which example (partition, public and validation)", done, _key("partition_sha256")),
        _shared("initial weights", common, _key("initial_weights_sha256")),
        _shared("pretrained weights", common, _key("pretrained_weights_sha256")),
        _shared("clients asked in each round (cohorts)", done, _cohorts),
        _shared("rounds, optimizer, budget and all other settings", done, _settings, by_seed=False),
        _shared("versions and machine", done, lambda x: json.dumps(x.summary["environment"]), by_seed=False),
    ]
    found += [Finding("network", "own", f"{label} trains its own: {'; '.join(x)}") for label, x in own.items()]
    found += _trainings(done)
    found += _engines(done)
    return found


def _protocol(row: Row, key: str) -> str:
    told = row.summary["protocol"]
    assert isinstance(told, Mapping)
    return json.dumps(told[key], sort_keys=True)


def _key(key: str) -> Callable[[Row], str]:
    return lambda row: _protocol(row, key)


def _cohorts(row: Row) -> str:
    # Of simulated devices who is late depends on what a method asks of them; who is asked does not.
    return json.dumps([sorted({*x.clients, *x.late, *x.surplus}) for x in row.records])


def _settings(row: Row) -> str:
    return json.dumps({key: x for key, x in row.settings.items() if key not in _OWN}, sort_keys=True)


def _shared(what: str, rows: Sequence[Row], told: Callable[[Row], str], by_seed: bool = True) -> Finding:
    """Whether `told` is the same in all runs, or in all of a seed."""
    groups: dict[int, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(row.seed if by_seed else 0, {}).setdefault(told(row), []).append(row)
    if all(len(group) == 1 for group in groups.values()):
        return Finding(what, "same", f"in all {len(rows)} runs" + (" of a seed" if by_seed else ""))
    odd = []
    for seed, group in groups.items():
        most, *others = sorted(group.values(), key=len, reverse=True)
        if others:
            names = ", ".join(_name(row) for rows in others for row in rows)
            odd.append((f"seed {seed}: " if by_seed else "") + f"{len(most)} runs agree, but not {names}")
    return Finding(what, "differs", "; ".join(odd))


def _name(row: Row) -> str:
    return f"{row.label}{'' if row.density is None else f' at {row.density:g}'} (seed {row.seed})"


def _own_networks(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Label -> its networks, where they are not the one that the configuration names."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        model = _protocol(row, "model")
        if model != json.dumps(row.settings["model"], sort_keys=True):
            text = f"{model} with {row.figures['parameters']:,.0f} parameters"
            found.setdefault(row.label, {})[text] = None
    return {label: list(texts) for label, texts in found.items()}


def _trainings(rows: Sequence[Row]) -> list[Finding]:
    told: dict[str, dict[str, None]] = {}
    for row in rows:
        for record in row.records:
            for key in record.own_training:
                told.setdefault(row.label, {})[key] = None
    if not told:
        return [Finding("local training", "same", "no method changed it")]
    return [
        Finding("local training", "own", f"{label} sets {', '.join(keys)} itself, as is its method")
        for label, keys in told.items()
    ]


def _engines(rows: Sequence[Row]) -> list[Finding]:
    groups: dict[str, list[str]] = {}
    for row in rows:
        engine = row.summary["engine"]
        assert isinstance(engine, Mapping)
        where = row.label if row.density is None else f"{row.label} at {row.density:g}"
        groups.setdefault(str(engine["name"]), []).append(where)
    if len(groups) == 1:
        return [Finding("engine", "same", f"{next(iter(groups))} in all {len(rows)} runs")]
    text = "; ".join(f"{name}: {', '.join(_unique(cases))}" for name, cases in groups.items())
    return [Finding("engine", "own", f"they differ by float32 rounding ({text})")]


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
