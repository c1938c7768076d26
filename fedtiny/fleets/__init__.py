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


class Inline(Value):
    """Clients take turns in this process: for tests, debugging, and machines without Ray."""

    name: Literal["inline"] = "inline"

    @contextmanager
    def open(self, world: World, clients: int, cohort: int) -> Iterator[Fleet]:
        """A fleet of `clients` in this process."""
        from fedtiny.fleets.inline import InlineFleet

        yield InlineFleet(world, clients)


class RayActors(Value):
    """Clients are Ray actors, on a local Ray that starts and ends with the run."""

    name: Literal["ray"] = "ray"
    actors: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Actor processes, one CPU each; auto is one a client of the round, or one a CPU where there are fewer."""

    @contextmanager
    def open(self, world: World, clients: int, cohort: int) -> Iterator[Fleet]:
        """A fleet of `clients`, `cohort` of which take part in a round; Ray ends with the context."""
        from fedtiny.fleets.ray import local_ray, start_fleet

        with local_ray(None if self.actors == "auto" else self.actors) as cpus:
            actors = min(cohort, cpus) if self.actors == "auto" else self.actors
            yield start_fleet(world, clients, actors)


AnyFleet = Annotated[Inline | RayActors, Field(discriminator="name")]
