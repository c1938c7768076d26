"""Where clients run: the fleets that a configuration can name.

The values here are light; each imports its machinery when it opens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from pydantic import Field

from fedtiny.client.world import World
from fedtiny.payload.fleet import Fleet
from fedtiny.value import Value

__all__ = ["AnyFleet", "Inline", "RayActors"]


Retries = Annotated[int, Field(ge=0)]


class Inline(Value):
    """Clients take turns in this process: for tests, debugging, and machines without Ray."""

    name: Literal["inline"] = "inline"
    retries: Retries = 1
    """Tries of a client that raises, beyond the first, with the same random stream."""

    @contextmanager
    def open(self, world: World, clients: int, cohort: int) -> Iterator[Fleet]:
        """A fleet of `clients` in this process."""
        from fedtiny.fleets.inline import InlineFleet

        yield InlineFleet(world, clients, self.retries)


class RayActors(Value):
    """Clients are Ray actors, on a local Ray that starts and ends with the run, or on a cluster."""

    name: Literal["ray"] = "ray"
    actors: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Actor processes; auto is one a client of the round, or as many as CPUs and memory have room for."""
    cpus: Annotated[float, Field(gt=0)] = 1.0
    """CPUs that an actor takes of the cluster. It computes with one thread whatever this is: equal bits."""
    retries: Retries = 1
    """Tries of a client that raises, hangs or loses its actor, beyond the first, with the same random stream."""
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds of wall-clock time after which a client's actor is taken for hung and replaced; none waits."""
    address: str | None = None
    """A Ray cluster to join, `auto` for the one of this machine; none starts a local Ray."""

    @contextmanager
    def open(self, world: World, clients: int, cohort: int) -> Iterator[Fleet]:
        """A fleet of `clients`, `cohort` of which take part in a round; a local Ray ends with the context.

        Raises:
            ValueError: The cluster has no room for the actors, or is not there; names the numbers.
        """
        from fedtiny.fleets.ray import Crew, RayFleet, open_ray

        wanted = None if self.actors == "auto" else self.actors
        with open_ray(self.address, None if wanted is None else wanted * self.cpus) as free:
            most = int(free / self.cpus + 1e-6)
            if most < (wanted or 1):
                raise ValueError(
                    f"fleet.actors: {wanted or 1} with {self.cpus:g} CPUs each need {(wanted or 1) * self.cpus:g}, but "
                    f"{free:g} are free; lower fleet.actors or fleet.cpus"
                )
            actors = wanted or Crew.fitting(cohort, free, self.cpus, self.address is None)
            fleet = RayFleet(world, clients, Crew(actors, self.cpus, 0.0, self.retries, self.deadline_s))
            try:
                yield fleet
            finally:
                fleet.close()


AnyFleet = Annotated[Inline | RayActors, Field(discriminator="name")]
