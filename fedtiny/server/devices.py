"""What a round would take on real devices: who answers in time, seconds, joules. Modelled, never measured.

A client downloads, then computes, then uploads; docs/devices.md has the formulas, and what they leave out.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from fedtiny.value import Value

__all__ = ["DeviceClass", "Devices", "Outcome", "Task", "memory_problems", "play"]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
# 1.1 * 10 is 11.000000000000002 in floats: what lies this close to a whole number is that number.
DUST = 1e-9


@dataclass(frozen=True, slots=True)
class Task:
    """One client's part of a round.

    Attributes:
        download_s: Seconds until it has the order.
        compute_s: Seconds of training after that.
        upload_s: Seconds until the server has its answer, after that.
        compute_watts: Power while it computes.
        radio_watts: Power while it sends or receives.
    """

    download_s: float
    compute_s: float
    upload_s: float
    compute_watts: float
    radio_watts: float

    @property
    def seconds(self) -> float:
        """From the start of the round to its answer."""
        return self.download_s + self.compute_s + self.upload_s

    @property
    def joules(self) -> float:
        """If it is left to finish."""
        return self.joules_until(math.inf)

    def joules_until(self, end: float) -> float:
        """Joules spent until `end`, in seconds from the start of the round."""
        download = min(self.download_s, end)
        compute = min(self.compute_s, max(end - self.download_s, 0.0))
        upload = min(self.upload_s, max(end - self.download_s - self.compute_s, 0.0))
        return self.compute_watts * compute + self.radio_watts * (download + upload)


class DeviceClass(Value):
    """One kind of device."""

    share: Positive = 1.0
    """Clients that are such devices, relative to the other classes' shares."""
    speed: Positive = 1.0
    """Compute speed, as a multiple of devices.flops_per_second."""
    download_bytes_per_s: Positive = 2.5e6
    """Bytes a second from the server; the default is 20 Mbit/s."""
    upload_bytes_per_s: Positive = 1.25e6
    """Bytes a second to the server; the default is 10 Mbit/s."""
    availability: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Probability that such a device can take part in a round."""
    memory_bytes: Annotated[int, Field(ge=1)] | None = None
    """Memory for training; none is as much as it takes."""
    compute_watts: NotNegative = 3.0
    """Power while it computes, beyond that of idling."""
    radio_watts: NotNegative = 1.0
    """Power while it sends or receives, beyond that of idling."""


class Devices(Value):
    """The devices that clients are, and how long the server waits for them."""

    classes: Annotated[dict[str, DeviceClass], Field(min_length=1)]
    """Kinds of device, by name."""
    flops_per_second: Positive = 1e9
    """Modelled FLOPs that a device of speed 1 makes in a second."""
    deadline_s: Positive | None = None
    """Simulated seconds after which a round waits for nobody; none waits for everybody."""
    over_selection: Annotated[float, Field(ge=1)] = 1.0
    """Clients asked / clients wanted; the first answers are taken."""

    def assign(self, clients: int, rng: np.random.Generator) -> tuple[str, ...]:
        """The class of each client: exact shares, whole by largest remainder (ties: the class named first), shuffled.

        Args:
            clients: Clients in the federation.
            rng: The only source of randomness.
        """
        shares = np.array([kind.share for kind in self.classes.values()])
        ideal = clients * shares / shares.sum()
        counts = np.floor(ideal + DUST).astype(np.int64)
        # Rounded, so that float dust does not decide between equal remainders.
        by_remainder = np.argsort(-np.round(ideal - counts, 9), kind="stable")
        counts[by_remainder[: clients - counts.sum()]] += 1
        dealt = [name for name, count in zip(self.classes, counts, strict=True) for _ in range(count)]
        return tuple(dealt[i] for i in rng.permutation(clients))

    def available(self, kinds: Sequence[str], rng: np.random.Generator) -> list[int]:
        """Clients that can take part in one round, ascending.

        Args:
            kinds: Class of each client.
            rng: The only source of randomness; gives one number a client, whatever its class.
        """
        draws = rng.random(len(kinds))
        return [i for i, kind in enumerate(kinds) if draws[i] < self.classes[kind].availability]

    def asked(self, wanted: int) -> int:
        """Clients to ask, so that `wanted` are likely to answer."""
        return math.ceil(wanted * self.over_selection - DUST)

    def task(self, kind: str, download_bytes: int, flops: float, upload_bytes: int) -> Task:
        """One client's part of a round, on a device of class `kind`."""
        device = self.classes[kind]
        return Task(
            download_s=download_bytes / device.download_bytes_per_s,
            compute_s=flops / (device.speed * self.flops_per_second),
            upload_s=upload_bytes / device.upload_bytes_per_s,
            compute_watts=device.compute_watts,
            radio_watts=device.radio_watts,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a simulated round; each client asked is in one of three places.

    Attributes:
        accepted: Clients whose answer is taken, ascending.
        late: Clients that need longer than the deadline, ascending, even where the round was over before it.
        surplus: Clients fast enough, but not among the first `wanted`, ascending.
        seconds: Duration of the round.
        joules: Of all clients asked, until the round was over.
    """

    accepted: tuple[int, ...]
    late: tuple[int, ...]
    surplus: tuple[int, ...]
    seconds: float
    joules: float

    @property
    def asked(self) -> int:
        """Clients asked."""
        return len(self.accepted) + len(self.late) + len(self.surplus)


def play(tasks: Mapping[int, Task], wanted: int, deadline_s: float | None) -> Outcome:
    """Lets everyone asked work until `wanted` have answered, nobody is left, or the deadline is reached.

    Args:
        tasks: Client -> its part; none at all make a round of 0 seconds.
        wanted: Answers the server would like; of equally fast ones it takes the lower client's.
        deadline_s: Seconds the server waits at most, an answer in that very moment included; None is for ever.
    """
    deadline = math.inf if deadline_s is None else deadline_s
    arrivals = sorted(tasks, key=lambda client: (tasks[client].seconds, client))
    in_time = [client for client in arrivals if tasks[client].seconds <= deadline]
    # The deadline bounds it: fewer than `wanted` in time means that one of these first is late, or that nobody is.
    seconds = min(deadline, max((tasks[client].seconds for client in arrivals[:wanted]), default=0.0))
    return Outcome(
        accepted=tuple(sorted(in_time[:wanted])),
        late=tuple(sorted(arrivals[len(in_time) :])),
        surplus=tuple(sorted(in_time[wanted:])),
        seconds=seconds,
        joules=math.fsum(task.joules_until(seconds) for task in tasks.values()),
    )


def memory_problems(devices: Devices, needed_bytes: Callable[[int], int], batch: int) -> list[str]:
    """A line for each class whose memory is too small for training: with the batch that would fit, or with the bytes.

    Args:
        devices: The devices.
        needed_bytes: Batch -> bytes that training needs; never falls.
        batch: Examples a step.
    """
    needed = needed_bytes(batch)
    problems = []
    for name, kind in devices.classes.items():
        if kind.memory_bytes is None or kind.memory_bytes >= needed:
            continue
        smaller = range(2, batch)  # batch norm needs two examples a step
        fitting = smaller[: bisect_right(smaller, kind.memory_bytes, key=needed_bytes)]
        rule = f"must hold what training needs at batch {batch}, {needed:,} bytes, got {kind.memory_bytes:,}"
        way_out = f"no batch fits, 2 needs {needed_bytes(2):,} bytes; lower method.density or model.width"
        if fitting:
            way_out = f"training.batch={fitting[-1]} would fit"
        problems.append(f"devices.classes.{name}.memory_bytes: {rule}; {way_out}")
    return problems
