"""What a trial takes of the cluster, and whether there is as much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedtiny.config.schema import RunConfig
from fedtiny.fleets import Inline
from fedtiny.fleets.limits import ACTOR_BYTES, actors_that_fit, usable_cpus

__all__ = ["Reservation", "this_machine"]

Bundle = dict[str, float]


@dataclass(frozen=True, slots=True)
class Reservation:
    """The driver and the actors of a trial, held together as one placement group.

    Attributes:
        driver: What the driver takes: the CPU that clients compute on, where they are in its process. A driver with
            actors waits while they compute, and computes while they wait: it takes none of its own.
        actors: What each actor takes.
    """

    driver: Bundle
    actors: tuple[Bundle, ...] = ()

    @classmethod
    def of(cls, config: RunConfig) -> "Reservation":
        """That of a run."""
        fleet = config.fleet
        if isinstance(fleet, Inline):
            return cls({"CPU": 1.0, "GPU": fleet.gpus})
        count = fleet.places(config.cohort or config.clients) if fleet.actors == "auto" else fleet.actors
        return cls({"CPU": 0.0}, ({"CPU": fleet.cpus, "GPU": fleet.gpus},) * count)

    @property
    def bundles(self) -> list[Bundle]:
        """The driver's, then the actors'."""
        return [self.driver, *self.actors]

    @property
    def processes(self) -> int:
        """Processes that a trial has."""
        return 1 + len(self.actors)

    def total(self, kind: str) -> float:
        """How much of a kind it takes in all."""
        return sum(bundle.get(kind, 0.0) for bundle in self.bundles)

    def at_once(self, nodes: Sequence[Mapping[str, float]], local: bool) -> int:
        """Trials that there is room for side by side.

        Args:
            nodes: What each node of the cluster has, `CPU` and `GPU`.
            local: Whether that is this machine, whose memory is known.
        """
        most = [
            int(sum(node.get(kind, 0.0) for node in nodes) / self.total(kind) + 1e-6)
            for kind in ("CPU", "GPU")
            if self.total(kind)
        ]
        return min([*most, *([max(1, actors_that_fit() // self.processes)] if local else [])])

    def lacking(self, nodes: Sequence[Mapping[str, float]], local: bool) -> str:
        """What is short for even one trial, in a line that names the way out; empty if nothing is.

        Args:
            nodes: As for `at_once`.
            local: Likewise.
        """
        what = f"one driver and {len(self.actors)} actors" if self.actors else "one process"
        for kind, key in (("CPU", "cpus"), ("GPU", "gpus")):
            has = sum(node.get(kind, 0.0) for node in nodes)
            if self.total(kind) > has + 1e-6:
                fewer = "fleet.actors or " if self.actors else ""
                where = "this machine" if local else "the cluster"
                return (
                    f"fleet: a trial ({what}) takes {self.total(kind):g} {kind}s, and {where} has {has:g}; "
                    f"lower {fewer}fleet.{key}"
                )
            largest = max((node.get(kind, 0.0) for node in nodes), default=0.0)
            if (most := max(bundle.get(kind, 0.0) for bundle in self.bundles)) > largest + 1e-6:
                return (
                    f"fleet: an actor takes {most:g} {kind}s, and no node of the cluster has more than {largest:g}; "
                    f"lower fleet.{key}"
                )
        if local and self.processes > (fit := max(2, actors_that_fit())):
            return (
                f"fleet: a trial ({what}) needs about {self.processes * ACTOR_BYTES / 1e9:g} GB of memory, and what "
                f"is free has room for {fit} processes; lower fleet.actors"
            )
        return ""


def this_machine() -> list[dict[str, float]]:
    """What this machine has, before any Ray is started."""
    import torch

    return [{"CPU": float(usable_cpus()), "GPU": float(torch.cuda.device_count())}]
