"""The bills of several methods, and the table of them."""

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

__all__ = ["bills", "table"]


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
        notes: list[str] = []
        try:
            ready.append((prepare(config, partial(_hear, notes, tell)), notes))
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


def table(found: Sequence[Bill]) -> Table:
    """A row a method, for people."""
    config = found[0].prepared.config
    asked = min(config.cohort or config.clients, config.clients)
    return Table(
        f"{config.rounds} rounds, {asked} of {config.clients} clients each, {config.data.name}, {config.model.name}",
        (
            "method",
            "density",
            "up",
            "down",
            "before\nround 1",
            "up, client\nand round",
            "down, client\nand round",
            "FLOPs a round\nrigl",
            "FLOPs a round\nfedrts",
            "FLOPs in all\nrigl",
            "client\nmemory",
            "activa-\ntions",
            "server\nmemory",
            "time here",
        ),
        tuple(_row(bill) for bill in found),
    )


def _row(bill: Bill) -> tuple[str, ...]:
    begin, rounds = bill.rehearsal.begin, bill.rehearsal.rounds
    up, down = sum(x.upload_bytes for x in rounds), sum(x.download_bytes for x in rounds)
    shares = sum(len(x.clients) for x in rounds)
    flops = bill.flops_by_round
    mask = bill.rehearsal.state.mask
    return (
        bill.name,
        f"{100 * (mask.density if mask else 1):.3g} %",
        human_bytes(begin.upload_bytes + up),
        human_bytes(begin.download_bytes + down),
        human_bytes(begin.upload_bytes + begin.download_bytes),
        human_bytes(up / shares),
        human_bytes(down / shares),
        human_flops(max(flops["rigl"])),
        human_flops(max(flops["fedrts"])),
        human_flops(sum(flops["rigl"])),
        human_bytes(max(x.effort.memory_bytes for x in rounds)),
        human_bytes(max(x.effort.activation_bytes for x in rounds)),
        human_bytes(max(x.state_bytes + x.held_bytes for x in rounds)),
        human_seconds(bill.seconds.total),
    )
