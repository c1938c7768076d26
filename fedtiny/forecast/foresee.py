"""The bills of several methods, and tables of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from fedtiny.config.load import ConfigError
from fedtiny.config.schema import RunConfig
from fedtiny.forecast.bill import Bill
from fedtiny.forecast.clock import dense_step
from fedtiny.forecast.rehearsal import rehearse
from fedtiny.models.zoo import AnyModel
from fedtiny.prepare import Prepared, prepare
from fedtiny.table import Table
from fedtiny.track.results import human_bytes, human_flops, human_seconds

__all__ = ["bills", "tables"]


_ON_GPUS = "its clients train on GPUs, and the seconds are those of this machine's CPUs"


@dataclass(slots=True)
class _Steps:
    """Seconds of dense steps, each network's measured once, or taken from where its engine was chosen."""

    known: dict[AnyModel, float]

    def of(self, prepared: Prepared) -> float:
        if prepared.model not in self.known:
            cost = prepared.choice.cost
            self.known[prepared.model] = dense_step(prepared) if cost is None else cost.dense_seconds
        return self.known[prepared.model]


def bills(configs: Iterable[RunConfig], tell: Callable[[str], None] = lambda text: None) -> list[Bill]:
    """A bill for each configuration, in order. One that cannot run is told and left out, unless none can.

    Args:
        configs: The runs.
        tell: Is told, in a line, of what takes seconds, and of runs that cannot be.

    Raises:
        ConfigError: None of the runs can be.
    """
    torch.set_num_threads(1)  # as in a run
    ready: list[tuple[Prepared, list[str]]] = []
    refused: list[str] = []
    for config in configs:
        notes = [_ON_GPUS] if config.fleet.gpus else []
        try:
            like = ready[0][0] if ready else None
            ready.append((prepare(config, partial(_hear, notes, tell), like), notes))
        except ConfigError as error:
            refused += [f"{config.method.name}: {problem}" for problem in error.problems]
    if not ready:
        raise ConfigError(refused)
    for problem in refused:
        tell(problem)
    # Those whose engine was chosen by stopwatch know the dense step of their network already.
    steps = _Steps({prepared.model: x.cost.dense_seconds for prepared, _ in ready if (x := prepared.choice).cost})
    return [Bill.of(prepared, rehearse(prepared), steps.of(prepared), notes) for prepared, notes in ready]


def _hear(notes: list[str], tell: Callable[[str], None], text: str) -> None:
    """Notes are kept for the bill, all else is told at once."""
    if text.startswith("note: "):
        notes.append(text.removeprefix("note: "))
    else:
        tell(text)


def tables(found: Sequence[Bill]) -> tuple[Table, Table]:
    """For people, a row a method: what crosses the network, and what it takes to compute."""
    config = found[0].prepared.config
    asked = min(config.cohort or config.clients, config.clients)
    traffic = Table(
        f"{config.rounds} rounds with {asked} of {config.clients} clients: bytes (measured)",
        ("method", "density", "up", "down", "before round 1", "up, client and round", "down, client and round"),
        tuple(_traffic(bill) for bill in found),
    )
    work = Table(
        "FLOPs of a round's busiest client and memory (modelled), wall-clock time here (estimated)",
        (
            "method",
            "rigl, most",
            "fedrts, most",
            "rigl, in all",
            "before round 1",
            "client memory",
            "activations",
            "server memory",
            "time here",
        ),
        tuple(_work(bill) for bill in found),
    )
    return traffic, work


def _traffic(bill: Bill) -> tuple[str, ...]:
    begin, rounds, mask = bill.rehearsal.begin, bill.rehearsal.rounds, bill.rehearsal.state.mask
    up, down = sum(x.upload_bytes for x in rounds), sum(x.download_bytes for x in rounds)
    shares = sum(len(x.clients) for x in rounds)
    return (
        bill.name,
        f"{100 * (mask.density if mask else 1):.3g} %",
        human_bytes(begin.upload_bytes + up),
        human_bytes(begin.download_bytes + down),
        human_bytes(begin.upload_bytes + begin.download_bytes),
        human_bytes(up / shares),
        human_bytes(down / shares),
    )


def _work(bill: Bill) -> tuple[str, ...]:
    rounds, flops = bill.rehearsal.rounds, bill.flops_by_round
    return (
        bill.name,
        human_flops(max(flops["rigl"])),
        human_flops(max(flops["fedrts"])),
        human_flops(sum(flops["rigl"])),
        human_flops(bill.rehearsal.begin_flops["rigl"]),
        human_bytes(max(x.effort.memory_bytes for x in rounds)),
        human_bytes(max(x.effort.activation_bytes for x in rounds)),
        human_bytes(max(x.state_bytes + x.held_bytes for x in rounds)),
        human_seconds(bill.seconds.total),
    )
