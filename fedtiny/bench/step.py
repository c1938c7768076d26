"""A training step and inference, dense and sparse."""

from collections.abc import Callable
from functools import partial

import torch

from fedtiny.bench.machine import machine, network_of
from fedtiny.bench.subject import Subject
from fedtiny.sparse.engine.choose import crossovers
from fedtiny.sparse.engine.measure import Cost, Stepper, measure, random_mask
from fedtiny.sparse.mask import Mask
from fedtiny.table import Table
from fedtiny.track.results import human_bytes

__all__ = ["step"]


def step(subject: Subject) -> tuple[Table, dict[str, object]]:
    """A training step and inference, dense and sparse: as a table, and for machines.

    Raises:
        EngineUnavailable: The kernels cannot be had.
    """
    torch.set_num_threads(subject.threads)
    network = network_of(subject)
    mask = random_mask(network.prunable, subject.density)
    above = crossovers(network.module, network.input_shape, subject.batch)

    def make(mask: Mask | None, batch: int) -> Stepper:
        return Stepper(network.module, network.input_shape, batch, mask, above)

    def cost(call: Callable[[Stepper], object]) -> Cost:
        return measure(partial(make, None), partial(make, mask), subject.batch, call, subject.seconds)

    costs = {"training": cost(Stepper.train), "inference": cost(Stepper.infer)}
    rows = [row for what, found in costs.items() for row in _rows(what, found)]
    table = Table(
        f"{subject.model}, density {subject.density:g}, batch {subject.batch}, {subject.threads} thread(s)",
        ("", "dense PyTorch", "sparse engine", "ratio"),
        tuple(rows),
    )
    told = {name: found.model_dump() | {"speedup": found.speedup} for name, found in costs.items()}
    dense = sorted(name for name, most in above.items() if subject.density > most)
    return table, {"subject": subject.model_dump(), "machine": machine(), **told, "dense_layers": dense}


def _rows(what: str, cost: Cost) -> list[tuple[str, str, str, str]]:
    def seconds(value: float, spread: float) -> str:
        return f"{1e3 * value:.4g} ms (spread {100 * spread:.0f} %)"

    return [
        (
            f"{what}: a step",
            seconds(cost.dense_seconds, cost.dense_spread),
            seconds(cost.sparse_seconds, cost.sparse_spread),
            f"{cost.speedup:.1f}",
        ),
        (
            f"{what}: memory beyond activations",
            human_bytes(cost.dense_bytes),
            human_bytes(cost.sparse_bytes),
            f"{cost.dense_bytes / max(1, cost.sparse_bytes):.1f}",
        ),
        (
            f"{what}: memory at the peak",
            human_bytes(cost.dense_peak_bytes),
            human_bytes(cost.sparse_peak_bytes),
            f"{cost.dense_peak_bytes / max(1, cost.sparse_peak_bytes):.1f}",
        ),
    ]
