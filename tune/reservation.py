"""What a trial takes of the cluster, and whether there is as much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedtiny.fleets import AnyFleet, Inline, RayActors
from fedtiny.fleets.limits import ACTOR_BYTES, actors_on_gpus, actors_that_fit, usable_cpus

__all__ = ["Reservation", "Room"]

Bundle = dict[str, float]


@dataclass(frozen=True, slots=True)
class Room:
    """What there is for trials.

    Attributes:
        nodes: What each node of the cluster has, `CPU` and `GPU`.
        processes: Processes that this machine's memory has room for; None on a cluster, whose memory is not known.
    """

    nodes: Sequence[Mapping[str, float]]
    processes: int | None = None

    @classmethod
    def here(cls, nodes: Sequence[Mapping[str, float]] | None = None) -> "Room":
        """That of this machine, whose local Ray has one node; without that, before it is started."""
        import torch

        own = [{"CPU": float(usable_cpus()), "GPU": float(torch.cuda.device_count())}]
        return cls(own if nodes is None else nodes, actors_that_fit())

    def has(self, kind: str) -> float:
        """How much of a kind there is in all."""
        return sum(node.get(kind, 0.0) for node in self.nodes)

    def actors(self, fleet: RayActors) -> int:
        """Actors of such a fleet that there is room for beside their driver, at least 1."""
        most = 0
        for node in self.nodes:
            here = int(node.get("CPU", 0.0) / fleet.cpus + 1e-6)
            most += min(here, actors_on_gpus(node.get("GPU", 0.0), fleet.gpus)) if fleet.gpus else here
        return max(1, most if self.processes is None else min(most, self.processes - 1))


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
    def of(cls, fleet: AnyFleet, cohort: int, room: Room) -> "Reservation":
        """That of a run.

        Args:
            fleet: Its fleet; `auto` actors are one a client of the round, or as many as there is room for.
            cohort: Clients of a round.
            room: What there is.
        """
        if isinstance(fleet, Inline):
            return cls({"CPU": 1.0, "GPU": fleet.gpus})
        count = min(cohort, room.actors(fleet)) if fleet.actors == "auto" else fleet.actors
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

    def at_once(self, room: Room) -> int:
        """Trials that there is room for side by side."""
        most = [int(room.has(kind) / self.total(kind) + 1e-6) for kind in ("CPU", "GPU") if self.total(kind)]
        return min([*most, *([] if room.processes is None else [max(1, room.processes // self.processes)])])

    def lacking(self, room: Room) -> str:
        """What is short for even one trial, in a line that names the way out; empty if nothing is."""
        what = f"one driver and {len(self.actors)} actors" if self.actors else "one process"
        for kind, key in (("CPU", "cpus"), ("GPU", "gpus")):
            if self.total(kind) > room.has(kind) + 1e-6:
                fewer = "fleet.actors or " if self.actors else ""
                where = "the cluster" if room.processes is None else "this machine"
                return (
                    f"fleet: a trial ({what}) takes {self.total(kind):g} {kind}s, and {where} has {room.has(kind):g}; "
                    f"lower {fewer}fleet.{key}"
                )
            largest = max((node.get(kind, 0.0) for node in room.nodes), default=0.0)
            if (most := max(bundle.get(kind, 0.0) for bundle in self.bundles)) > largest + 1e-6:
                return (
                    f"fleet: an actor takes {most:g} {kind}s, and no node of the cluster has more than {largest:g}; "
                    f"lower fleet.{key}"
                )
        if room.processes is not None and self.processes > (fit := max(2, room.processes)):
            return (
                f"fleet: a trial ({what}) needs about {self.processes * ACTOR_BYTES / 1e9:g} GB of memory, and what "
                f"is free has room for {fit} processes; lower fleet.actors"
            )
        return ""
