"""The figures of a trial: on its way, and at its end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from fedtiny.compare.row import FIGURES, read_row
from fedtiny.track.record import RoundRecord

__all__ = ["FINAL", "OF_A_ROUND", "ON_THE_WAY", "at_the_end", "on_the_way"]

_LAST = (
    "test_accuracy",
    "test_loss",
    "validation_accuracy",
    "validation_loss",
    "train_loss",
    "density",
    "density_all",
    "memory_bytes",
    "activation_bytes",
)
_SUMS = ("upload_bytes", "download_bytes", "simulated_seconds", "joules", "seconds")

OF_A_ROUND = frozenset(_LAST)
"""What a round's record tells by itself."""

ON_THE_WAY = frozenset({*_LAST, *_SUMS, "rounds", "bytes", "flops"})
"""What is known after each evaluated round. `bytes` are up and down, `flops` are modelled for the busiest client
(accounting `rigl`): both over all rounds so far and the selection before them."""

FINAL = frozenset({*FIGURES, "rounds", "bytes", "flops", "test_loss", "memory_bytes_max", "activation_bytes_max"})
"""What is known at the end."""


def on_the_way(records: Sequence[RoundRecord], before: Mapping[str, float]) -> dict[str, float]:
    """The figures after some rounds.

    Args:
        records: All rounds so far, the last of them evaluated.
        before: What the selection came to: upload_bytes, download_bytes, flops.
    """
    told = asdict(records[-1])
    found = {key: float(told[key]) for key in _LAST if told[key] is not None}
    for key in _SUMS:
        values = [getattr(record, key) for record in records]
        if None not in values:
            found[key] = before.get(key, 0.0) + float(sum(values))
    flops = before.get("flops", 0.0) + sum(record.flops["rigl"] for record in records)
    return found | {
        "rounds": float(len(records)),
        "bytes": found["upload_bytes"] + found["download_bytes"],
        "flops": flops,
    }


def at_the_end(folder: Path) -> dict[str, float]:
    """The figures of a finished run: numbers of its summary, and those that a comparison tells."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    row = read_row("", None, 0, folder, folder.parent, "").figures
    numbers = {key: float(x) for key, x in summary.items() if isinstance(x, int | float) and not isinstance(x, bool)}
    found = numbers | {key: float(x) for key, x in row.items() if x is not None}
    return found | {
        "bytes": found["upload_bytes"] + found["download_bytes"],
        "flops": found["flops_total_rigl"],
    }
