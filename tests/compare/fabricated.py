"""A tiny comparison that never ran: two methods at two densities with two seeds, and a dense reference."""

from dataclasses import replace

from fedtiny.compare.grid import Grid
from fedtiny.compare.results import Results
from fedtiny.compare.row import FIGURES, Row
from tests.track.test_report import FIRST

__all__ = ["GRID", "RESULTS", "row"]

GRID = Grid("tiny", ("ours", "theirs_&_co", "whole"), ("whole",), (0.05, 0.005), (0, 1), "ours")


def row(label: str, density: float | None, seed: int, accuracy: float, failure: str = "") -> Row:
    """A row of round figures; bytes and FLOPs grow with the density."""
    share = 1.0 if density is None else density
    known: dict[str, float | None] = dict.fromkeys(FIGURES) | {
        "test_accuracy": accuracy,
        "test_accuracy_last5": accuracy - 0.01,
        "density": share,
        "density_all": share,
        "parameters": 40.0,
        "upload_bytes": 1e8 * share,
        "download_bytes": 2e8 * share,
        "selection_bytes": 0.0,
        "flops_round_max_rigl": 1e9 * share,
        "flops_round_max_fedrts": 2e9 * share,
        "flops_total_rigl": 2e9 * share,
        "flops_total_fedrts": 4e9 * share,
        "dense_flops_round_max": 1e9,
        "memory_bytes": 1e6 * share,
        "activation_bytes": 5e5,
        "seconds": 3.0,
        "dropped": 0.0,
    }
    summary = {
        "weights_sha256": f"{seed}" * 8,
        "environment": {"torch": "2"},
        "engine": {"name": "dense", "reason": "", "sparse_layers": []},
        "protocol": {
            "data_sha256": "d",
            "partition_sha256": f"p{seed}",
            "model": {"name": "resnet8", "width": 4},
            "initial_weights_sha256": f"i{seed}",
            "pretrained_weights_sha256": f"w{seed}",
        },
    }
    settings = {
        "name": "x",
        "seed": seed,
        "rounds": 2,
        "training": {"lr": 0.1, "batch": 16},
        "model": {"name": "resnet8", "width": 4},
        "method": {"name": label},
    }
    records = [FIRST, replace(FIRST, round=1, test_accuracy=accuracy)]
    where = "" if density is None else f"-{density:g}"
    found = Row(label, density, seed, f"cells/{label}{where}-{seed}", failure)
    return found if failure else replace(found, figures=known, records=records, summary=summary, settings=settings)


RESULTS = Results(
    GRID,
    [
        row("ours", 0.05, 0, 0.90),
        row("theirs_&_co", 0.05, 0, 0.80),
        row("ours", 0.05, 1, 0.92),
        row("theirs_&_co", 0.05, 1, 0.85),
        row("ours", 0.005, 0, 0.70),
        row("theirs_&_co", 0.005, 0, 0.72),
        row("ours", 0.005, 1, 0.70),
        row("theirs_&_co", 0.005, 1, 0.0, failure="ClientFailed: it diverged"),
        row("whole", None, 0, 0.98),
        row("whole", None, 1, 0.98),
    ],
)
"""By hand: t(0.975, 1) = 12.7062. ours at 5 %: s = 0.0141421, half = 12.7062 * 0.01 = 0.127062; theirs: 0.317655."""
