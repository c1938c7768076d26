"""Where clients run: the fleets that a configuration can name.

The values here are light; each imports its machinery when it opens.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from fedtiny.value import Value

if TYPE_CHECKING:
    from fedtiny.client.world import World
    from fedtiny.payload.fleet import Fleet

__all__ = ["AnyFleet", "Inline", "RayActors"]


Retries = Annotated[int, Field(ge=0)]


def _shareable(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise ValueError("must be a share of one GPU (at most 1), or a whole number of them")
    return gpus


Gpus = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_shareable)]


def _joinable(address: str | None) -> str | None:
    if address not in (None, "auto") and not re.fullmatch(r"([^\s/:]+|\[[^\s/\]]+\]):\d+", str(address)):
        raise ValueError("must be auto, or HOST:PORT of a cluster's head (6379 is its usual port) without any ://")
    return address


class Inline(Value):
    """Clients take turns in this process: for tests, debugging, and machines without Ray."""

    name: Literal["inline"] = "inline"
    retries: Retries = 1
    """Tries of a client that raises, beyond the first, with the same random stream."""
    gpus: Gpus = 0.0
    """Anything above 0 trains on the CUDA device; in a comparison, each run takes such a share of one."""

    def places(self, cohort: int) -> int:
        """Clients that compute at once: one."""
        return 1

    def booting(self) -> AbstractContextManager[None]:
        """There is nothing to get ready."""
        return nullcontext()

    @contextmanager
    def open(self, world: "World", clients: int, cohort: int) -> "Iterator[Fleet]":
        """A fleet of `clients` in this process.

        Raises:
            ValueError: It is to compute on a GPU, and PyTorch sees none.
        """
        from fedtiny.client.processor import processor
        from fedtiny.fleets.inline import InlineFleet

        yield InlineFleet(world, clients, self.retries, processor(self.gpus))


class RayActors(Value):
    """Clients are Ray actors, on a local Ray that starts and ends with the run, or on a cluster."""

    name: Literal["ray"] = "ray"
    actors: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Actor processes; auto is one a client of the round, or as many as CPUs and memory have room for."""
    cpus: Annotated[float, Field(gt=0)] = 1.0
    """CPUs that an actor takes of the cluster. It computes with one thread whatever this is: equal bits."""
    gpus: Gpus = 0.0
    """GPUs that an actor takes of the cluster: with 0.25, four actors share one. 0 trains on CPUs."""
    retries: Retries = 1
    """Tries of a client that raises, hangs or loses its actor, beyond the first, with the same random stream."""
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds of wall-clock time after which a client's actor is taken for hung and replaced; none waits."""
    address: Annotated[str | None, AfterValidator(_joinable)] = None
    """HOST:PORT of a Ray cluster to join; `auto`: $RAY_ADDRESS, or this machine's; none starts a local Ray."""

    @contextmanager
    def open(self, world: "World", clients: int, cohort: int) -> "Iterator[Fleet]":
        """A fleet of `clients`, `cohort` of which take part in a round; a local Ray ends with the context.

        Raises:
            ValueError: The cluster has no room for the actors, or is not there; names the numbers.
        """
        if lacking := self._lacking_memory():
            raise ValueError(lacking)
        from fedtiny.fleets.boot import connected
        from fedtiny.fleets.limits import actors_on_gpus
        from fedtiny.fleets.ray import Crew, RayFleet

        with connected(self.address, self._promised) as free:
            room = int(free["CPU"] / self.cpus + 1e-6)
            least = 1 if self.actors == "auto" else self.actors
            if room < least:
                raise ValueError(
                    f"fleet.actors: {least} with {self.cpus:g} CPUs each need {least * self.cpus:g}, but "
                    f"{free['CPU']:g} are free; lower fleet.actors or fleet.cpus"
                )
            if self.gpus:
                room = min(room, on_gpus := actors_on_gpus(free["GPU"], self.gpus))
                if on_gpus < least:
                    raise ValueError(
                        f"fleet.gpus: {least} actors with {self.gpus:g} GPUs each must fit into those of the cluster, "
                        f"but {free['GPU']:g} are free; lower fleet.actors or fleet.gpus, or set fleet.gpus=0"
                    )
            actors = Crew.fitting(cohort, room, self.address is None) if self.actors == "auto" else self.actors
            fleet = RayFleet(world, clients, Crew(actors, self.cpus, self.gpus, self.retries, self.deadline_s))
            try:
                yield fleet
            finally:
                fleet.close()

    def places(self, cohort: int) -> int:
        """Clients that compute at once, as far as this machine tells without starting Ray: of a cluster, only it."""
        from fedtiny.fleets.limits import actors_that_fit, usable_cpus

        if self.actors != "auto":
            return min(cohort, self.actors)
        return max(1, min(cohort, int(usable_cpus() / self.cpus + 1e-6), actors_that_fit()))

    @property
    def _promised(self) -> float | None:
        """CPUs that a local Ray must have; None is what there is."""
        return None if self.actors == "auto" else self.actors * self.cpus

    def booting(self) -> AbstractContextManager[None]:
        """Meanwhile a local Ray gets ready in the background; nothing where a cluster is joined.

        Raises:
            ValueError: There is no such cluster.
        """
        from fedtiny.fleets.boot import booting, found

        if self.address is not None:
            found(self.address)
            return nullcontext()
        # Ray starts a process for each CPU promised: none where `open` is going to refuse.
        return nullcontext() if self._lacking_memory() else booting(self._promised)

    def _lacking_memory(self) -> str:
        """Why so many actors do not fit into this machine; empty if they do, or may be elsewhere."""
        from fedtiny.fleets.limits import ACTOR_BYTES, actors_that_fit

        if self.actors == "auto" or self.address is not None or self.actors <= (most := max(2, actors_that_fit())):
            return ""
        return (
            f"fleet.actors: {self.actors} need about {ACTOR_BYTES / 1e9:g} GB of memory each, and what is free has "
            f"room for {most}; lower fleet.actors, or set fleet.actors=auto"
        )


AnyFleet = Annotated[Inline | RayActors, Field(discriminator="name")]
