"""Who takes part in a round."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedtiny import seeds
from fedtiny.payload.fleet import ClientFailed
from fedtiny.payload.messages import SERVER, when
from fedtiny.payload.upload import upload_bytes
from fedtiny.server.asked import Asked
from fedtiny.server.devices import Devices, Task

__all__ = ["Population", "cohort"]

LOOKS = 10_000
"""How often the server looks for somebody who can take part before it gives a round up: a second or so."""


def cohort(clients: int, size: int | None, seed: int, round: int) -> list[int]:
    """The clients of one round, ascending: all of them, or `size` drawn without replacement for this round alone."""
    return _drawn(list(range(clients)), clients if size is None else size, seed, round)


def _drawn(pool: list[int], size: int, seed: int, round: int) -> list[int]:
    if size >= len(pool):
        return pool
    drawn = seeds.stream(seed, "cohort", round).choice(len(pool), size, replace=False)
    return sorted(pool[i] for i in drawn)


@dataclass(frozen=True, slots=True)
class Population:
    """Clients as devices in the field: who can take part, and what a task takes there.

    Attributes:
        devices: What the configuration says of them.
        kinds: Class of each client.
        examples: Training examples of each client.
        seed: The run's seed.
    """

    devices: Devices
    kinds: tuple[str, ...]
    examples: Mapping[int, int]
    seed: int

    def asked(self, wanted: int, round: int) -> list[int]:
        """The clients that a round asks so that `wanted` answer: drawn of those that can take part.

        Where nobody can, the server looks again, until somebody can.

        Raises:
            ClientFailed: Nobody ever can.
        """
        for look in range(LOOKS):
            there = self.devices.available(self.kinds, seeds.stream(self.seed, "available", round, look))
            if there:
                return _drawn(there, self.devices.asked(wanted), self.seed, round)
        raise ClientFailed(
            f"no client could take part {when(round)}, however often the server looked ({LOOKS:,} times); raise the "
            f"availability of devices.classes"
        )

    def tasks(self, asked: Asked, downloads: Mapping[int, int]) -> dict[int, Task]:
        """What an order takes of each client that downloads it; that it sends its weights if it may keep them back.

        Args:
            asked: What they are asked. Where clients move their masks, as many weights come back, and masks that are
                counted with the most they can take.
            downloads: Client -> bytes of its download.
        """
        return {client: self._task(asked, client, down) for client, down in downloads.items() if client != SERVER}

    def _task(self, asked: Asked, client: int, down: int) -> Task:
        order, examples = asked.order, self.examples[client]
        flops = asked.effort(client).flops(examples - order.held_out(examples))["rigl"]
        return self.devices.task(self.kinds[client], down, flops, upload_bytes(order, asked.packing(client)))
