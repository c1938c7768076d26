"""Clients in trouble: their data makes it, wherever they are played."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedtiny.client.world import World

__all__ = ["Kind", "in_trouble"]

Kind = Literal["raise", "die", "hang", "slow", "memory"]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Troubled(Mapping[int, Indices]):
    """Shares of a world of which one makes trouble for the process that reads it.

    Attributes:
        shares: The shares.
        client: Who is in trouble.
        kind: What happens.
        times: How often it happens, all processes together.
        diary: A folder in which each time leaves a file.
        driver: The process that may read all shares: it does not play clients.
    """

    shares: Mapping[int, Indices]
    client: int
    kind: Kind
    times: int
    diary: Path
    driver: int

    def __getitem__(self, client: int) -> Indices:
        if client == self.client and os.getpid() != self.driver and len(list(self.diary.iterdir())) < self.times:
            (self.diary / str(time.monotonic_ns())).write_text(str(os.getpid()))
            match self.kind:
                case "raise":
                    raise LookupError("the disk of this device is broken")
                case "memory":
                    # PyTorch's words: what it raises is no MemoryError.
                    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
                case "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "hang":
                    time.sleep(3600)
                case "slow":
                    time.sleep(4)
        return self.shares[client]

    def __iter__(self) -> Iterator[int]:
        return iter(self.shares)

    def __len__(self) -> int:
        return len(self.shares)


def in_trouble(world: World, client: int, kind: Kind, times: int, diary: Path) -> World:
    """The world, but that `client` makes trouble the first so many `times`."""
    diary.mkdir(parents=True)
    return replace(world, shares=Troubled(world.shares, client, kind, times, diary, os.getpid()))
