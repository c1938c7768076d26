"""Clients as Ray actors: which of them gets whom, and what becomes of those that die, hang or raise."""

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import OutOfMemoryError, RayError

from fedtiny.client.world import World
from fedtiny.fleets.actor import ClientActor, Sent, arrived
from fedtiny.fleets.death import cause, short_of_memory
from fedtiny.fleets.limits import actors_that_fit
from fedtiny.fleets.work import Times, Work
from fedtiny.payload.fleet import ClientFailed
from fedtiny.payload.messages import Order, Reply

__all__ = ["Crew", "RayFleet"]

_AT_WORK = ("load", "train", "pack", "queue", "failed", "start")

START_S = 120.0
"""Longest time without a single actor before the fleet gives up."""

STARTS = 4
"""Actors that die one after the other before they are ready, after which no further one is started."""

PAUSE_S = 1.0
"""Time between the first such death and the next start; it doubles from death to death."""


@dataclass(frozen=True, slots=True)
class Crew:
    """How many actors, and what each takes of the cluster.

    Attributes:
        actors: Actors alive at a time.
        cpus: CPUs of an actor.
        gpus: GPUs of an actor, a share if below 1.
        retries: Tries of a client beyond the first.
        deadline_s: Longest wall-clock time of one client; None is no limit.
    """

    actors: int
    cpus: float = 1.0
    gpus: float = 0.0
    retries: int = 1
    deadline_s: float | None = None

    @classmethod
    def fitting(cls, cohort: int, room: int, local: bool) -> int:
        """Actors for a cohort: one a client, or as many as the cluster has room for, or this machine's memory."""
        return max(1, min(cohort, room, actors_that_fit() if local else room))


@dataclass(slots=True, eq=False)
class _Call:
    """A portion of clients that an actor has in hand."""

    reference: "ObjectRef[list[Sent]]"
    clients: tuple[int, ...]
    work: Work


@dataclass(slots=True, eq=False)
class _Actor:
    """An actor, as seen from the driver.

    Attributes:
        handle: Ray's.
        starting: Answers when it can take clients; None since it has.
        calls: What it has in hand, oldest first: never more than two, so that it need not wait for the driver.
        since: When it came to the oldest of them.
        born: When it was asked for.
    """

    handle: "ActorHandle[ClientActor]"
    starting: "ObjectRef[int] | None"
    calls: deque[_Call] = field(default_factory=deque)
    since: float = 0.0
    born: float = field(default_factory=time.monotonic)


class RayFleet:
    """Actors that take turns at being clients. One that dies, hangs or raises is replaced."""

    def __init__(self, world: World, clients: int, crew: Crew) -> None:
        """Starts the actors; `world` lies once in each node's shared memory."""
        self._crew, self._size = crew, clients
        self._world = ray.put(world)
        self._class = ray.remote(num_cpus=crew.cpus, num_gpus=crew.gpus, max_restarts=0)(ClientActor)
        self._times = Times({client: len(share) for client, share in world.shares.items()})
        self._hopeless: set[int] = set()
        self._spent: dict[str, float] = {}
        self._wanted = crew.actors
        self._alive_at = self._asked_at = time.monotonic()
        self._stillborn, self._died_at, self._next_at = 0, 0.0, 0.0
        self._actors: list[_Actor] = []
        self._fill()

    @property
    def size(self) -> int:
        """Clients in the federation."""
        return self._size

    @property
    def actors(self) -> int:
        """Actors that are alive or starting."""
        return len(self._actors)

    @property
    def spent(self) -> Mapping[str, float]:
        """Seconds by what they went to, all actors together."""
        return self._spent

    def send(self, order: Order, clients: Sequence[int]) -> Iterator[Reply]:
        """Hands the clients to whichever actor is free, longest first, and yields replies as they come."""
        began, self._asked_at = time.perf_counter(), time.monotonic()
        box = [ray.put(order)]
        self._add("put", time.perf_counter() - began)
        trains, crew = order.training is not None, self._crew
        work = Work(clients, self._times, trains, crew.retries, self._hopeless, crew.deadline_s)
        used = sum(self._spent.get(kind, 0.0) for kind in _AT_WORK)
        while work.left:
            self._fill()
            self._hand_out(box, work)
            for actor in self._changed():
                yield from self._collect(actor, work)
            yield from self._overdue(work)
        used = sum(self._spent.get(kind, 0.0) for kind in _AT_WORK) - used
        self._add("idle", len(self._actors) * (time.perf_counter() - began) - used)

    def close(self) -> None:
        """Ends the actors: they may be on a cluster that outlives the run."""
        for actor in self._actors:
            ray.kill(actor.handle)
        self._actors = []

    def _add(self, kind: str, seconds: float) -> None:
        self._spent[kind] = self._spent.get(kind, 0.0) + seconds

    def _fill(self) -> None:
        while time.monotonic() >= self._next_at and len(self._actors) < self._wanted:
            handle = self._class.remote(self._world, self._crew.gpus)
            assert isinstance(handle, ActorHandle)
            self._actors.append(_Actor(handle, handle.ready.remote()))

    def _hand_out(self, box: "list[ObjectRef[Order]]", work: Work) -> None:
        """Gives every idle actor a portion; then, of short ones, a second that waits there."""
        ready = [actor for actor in self._actors if actor.starting is None]
        for depth in (1, 2):
            for actor in ready:
                if len(actor.calls) >= depth:
                    continue
                portion = work.portion(len(self._actors))
                if not portion:
                    return
                if not actor.calls:
                    actor.since = time.monotonic()
                actor.calls.append(_Call(actor.handle.send.remote(box, list(portion)), portion, work))
            if not work.is_short():
                return

    def _changed(self) -> list[_Actor]:
        """Waits until an actor is ready or done with a portion, or somebody may be overdue."""
        references: dict[object, _Actor] = {}
        for actor in self._actors:
            if actor.starting is not None:
                references[actor.starting] = actor
            elif actor.calls:
                references[actor.calls[0].reference] = actor
        if not references:
            time.sleep(self._patience())
            return []
        done, _ = ray.wait(list(references), timeout=self._patience())
        return [references[reference] for reference in done]

    def _patience(self) -> float:
        """Seconds until a deadline may have passed, or an actor may be started."""
        moments = [time.monotonic() + START_S]
        if len(self._actors) < self._wanted:
            moments.append(self._next_at)
        if self._crew.deadline_s is not None:
            moments += [actor.since + self._crew.deadline_s for actor in self._actors if actor.calls]
        return max(0.0, min(moments) - time.monotonic())

    def _collect(self, actor: _Actor, work: Work) -> Iterator[Reply]:
        if actor.starting is not None:
            self._welcome(actor, work)
            return
        call = actor.calls[0]
        try:
            replies = [arrived(sent) for sent in ray.get(call.reference)]
        except RayError as error:
            # All it had in hand: an answer on its way may have gone with the process, and the next client begun.
            short = isinstance(error, OutOfMemoryError)
            yield from self._lost(actor, f"lost its actor ({cause(error)})", work, tuple(actor.calls), short)
            return
        actor.calls.popleft()
        visible, actor.since = time.monotonic() - actor.since, time.monotonic()
        if call.work is not work:
            return  # Of an order that nobody waits for any more.
        self._alive_at = time.monotonic()
        self._add("queue", visible - sum(reply.seconds for reply in replies))
        raised = False
        for reply in replies:
            for kind, seconds in reply.spent.items():
                self._add(kind, seconds)
            if reply.buffer is not None:
                yield work.done(reply)
                continue
            last = work.failed(reply)
            raised |= last is None
            if last is not None:
                yield last
        if raised:  # The next try is for another process, should this one be to blame.
            self._replace(actor, work, any(short_of_memory(reply.failure) for reply in replies))

    def _welcome(self, actor: _Actor, work: Work) -> None:
        assert actor.starting is not None
        try:
            ray.get(actor.starting)
        except RayError as error:
            self._mourn(actor, error)
            self._replace(actor, work, shrink=isinstance(error, OutOfMemoryError))
            return
        actor.starting, actor.since = None, time.monotonic()
        self._add("start", actor.since - max(actor.born, self._asked_at))
        self._alive_at, self._stillborn, self._next_at = actor.since, 0, 0.0

    def _mourn(self, actor: _Actor, error: RayError) -> None:
        """Has the next start wait, after an actor that was never ready; after a few in a row there is none."""
        if actor.born <= self._died_at:
            return  # Started beside the one before: whatever ended that one has ended this one.
        living = [x for x in self._actors if x is not actor and (x.starting is None or x.born <= self._died_at)]
        self._stillborn, self._died_at = self._stillborn + 1, time.monotonic()
        self._next_at = self._died_at + PAUSE_S * 2 ** (self._stillborn - 1)
        if self._stillborn < STARTS:
            return
        if not living:
            raise ClientFailed(f"no actor can start, {STARTS} died one after the other ({cause(error)})")
        self._shrink(len(living), f"{STARTS} actors died before they were ready ({cause(error)})")

    def _overdue(self, work: Work) -> Iterator[Reply]:
        now, limit = time.monotonic(), self._crew.deadline_s
        if limit is not None:
            for actor in [x for x in self._actors if x.calls and now - x.since >= limit]:
                answered, _ = ray.wait([actor.calls[0].reference], timeout=0)
                if not answered:  # else it is the driver that was slow to look
                    yield from self._lost(actor, f"did not answer within {limit:g} s", work, (actor.calls[0],))
        heard = max([self._alive_at, self._asked_at, *(actor.born for actor in self._actors)])
        if all(actor.starting is not None for actor in self._actors) and now - heard > START_S:
            raise ClientFailed(
                f"no actor could start within {START_S:g} s: {self._wanted} with {self._crew.cpus:g} CPUs and "
                f"{self._crew.gpus:g} GPUs each were asked for, and the cluster has "
                f"{ {k: v for k, v in ray.available_resources().items() if k in ('CPU', 'GPU')} } free"
            )

    def _lost(
        self, actor: _Actor, reason: str, work: Work, suspects: Sequence[_Call], short: bool = False
    ) -> Iterator[Reply]:
        """An actor is gone, or hangs, at one of `suspects`: one client is blamed, of several each is tried alone."""
        self._add("failed", time.monotonic() - actor.since)
        for call in suspects:
            actor.calls.remove(call)
        self._replace(actor, work, shrink=short)
        clients = [client for call in suspects if call.work is work for client in call.clients]
        if len(clients) > 1 or any(call.work is not work for call in suspects):
            others = f"one of {len(clients) - 1} others" if len(clients) > 2 else "another"
            work.put_back(clients, alone=True, lost=f"or {others} {reason}")
            return
        (client,) = clients
        last = work.failed(Reply(client, None, failure=reason))
        if last is not None:
            yield last

    def _replace(self, actor: _Actor, work: Work, shrink: bool) -> None:
        """Ends an actor and starts another, unless memory was short: then the others have more of it."""
        for call in actor.calls:
            if call.work is work:
                work.put_back(call.clients)
        self._actors.remove(actor)
        ray.kill(actor.handle)
        if shrink and len(self._actors) > 0:
            self._shrink(len(self._actors), "memory was short")
        self._fill()

    def _shrink(self, wanted: int, why: str) -> None:
        """Goes on with fewer actors than were asked for, and says so."""
        if wanted < self._wanted:
            self._wanted = wanted
            logging.getLogger("fedtiny").warning("the fleet goes on with %d of its actors: %s", wanted, why)
