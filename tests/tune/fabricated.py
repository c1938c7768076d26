"""Trials that never ran."""

import itertools
from dataclasses import replace

from tune.objective import Objective
from tune.trial import Trial

__all__ = ["ACCURACY", "BYTES", "CLIENTS", "GRID", "MIXED", "trial"]

ACCURACY = Objective(figure="validation_accuracy", direction="max")
BYTES = Objective(figure="upload_bytes", direction="min")


def trial(name: str, accuracy: float, bytes_up: float, **sample: str | int | float) -> Trial:
    """A finished one; dots of keys are written as two underscores."""
    return Trial(
        name,
        {key.replace("__", "."): value for key, value in sample.items()},
        "finished",
        rounds=10,
        figures={
            "validation_accuracy": accuracy,
            "test_accuracy": accuracy - 0.01,
            "upload_bytes": bytes_up,
            "download_bytes": 2 * bytes_up,
            "memory_bytes_max": 1000 + bytes_up / 10,
            "flops_per_round_max/rigl": 1e3 * bytes_up,
            "seconds": 5.0,
            "density": 0.01,
        },
        seconds=5.0,
    )


def _grid() -> list[Trial]:
    """27 trials: three densities, three candidate pools, three seeds; accuracy grows with the density's logarithm."""
    made = []
    for i, (density, pool, seed) in enumerate(itertools.product((0.002, 0.01, 0.05), (1, 10, 50), (0, 1, 2))):
        accuracy = 0.5 + 0.1 * [0.002, 0.01, 0.05].index(density) + 0.02 * (pool == 10) + 0.01 * seed
        sent = 1e8 * density + 1e4 * pool
        made.append(trial(f"t{i:02d}", accuracy, sent, method__density=density, method__candidates=pool, seed=seed))
    made[4] = replace(made[4], status="failed", reason="ClientFailed: <3 of 10> answered", figures={}, rounds=3)
    made[13] = replace(made[13], status="stopped", reason="asha: among the worse two thirds after 4 rounds", rounds=4)
    made[22] = replace(made[22], status="running", figures={}, rounds=0)
    return made


GRID = _grid()

CLIENTS = [
    replace(trial(f"c{n}-{s}", 0.9 - n / 5000 + s / 100, 1e4 * n, clients=n, seed=s), seconds=5.0 + n / 10)
    for n in (10, 30, 100, 300, 1000)
    for s in (0, 1)
]

MIXED = [
    trial("m0", 0.60, 5e5, method__name="static", training__lr=0.1),
    trial("m1", 0.70, 6e5, method__name="fedtiny", method__candidates=10, training__lr=0.05),
    trial("m2", 0.75, 7e5, method__name="fedtiny", method__candidates=50, training__lr=0.01),
]
"""Only fedtiny has candidates."""
