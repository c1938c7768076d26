"""Whole runs side by side, each in a process of one CPU: Ray actors that make one after the other."""

import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import OutOfMemoryError, RayError

from fedtiny.fleets.boot import connected
from fedtiny.fleets.death import cause, short_of_memory
from fedtiny.fleets.limits import actors_on_gpus, actors_that_fit

__all__ = ["Ended", "Task", "died", "pooled"]

Task = Callable[[str], None]
"""Makes the run of a name: a function of a module, since it travels by its name."""

TICK_S = 0.5
"""Longest time between two looks at what is going on."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that is over.

    Attributes:
        job: Its name.
        failure: Why it failed, in a line; empty if it did not.
        traceback: Where it raised; empty if it did not, or its process died.
        tries: How often it was tried.
    """

    job: str
    failure: str = ""
    traceback: str = ""
    tries: int = 1


class Place:
    """A process that makes runs, one at a time."""

    def make(self, task: Task, job: str) -> tuple[str, str]:
        """Does it; gives what was raised, in a line, and where: both empty if nothing was."""
        try:
            task(job)
        except Exception as error:  # whatever it is, it is told, and the other runs go on
            return f"{type(error).__name__}: {' '.join(str(error).split())}", traceback.format_exc()
        return "", ""


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """A job in a place's hands."""

    handle: "ActorHandle[Place]"
    job: str


def pooled(
    task: Task,
    jobs: Sequence[str],
    retries: int = 1,
    tick: Callable[[Collection[str]], None] = lambda jobs: None,
    gpus: float = 0.0,
) -> Generator[Ended, None, None]:
    """Does all jobs, as many at once as CPUs and memory have room for; yields each when it is over.

    A job that raises, or whose process dies, is tried again in a new process, after all others.

    Args:
        task: What to do for each.
        jobs: In this order.
        retries: Tries of a job beyond the first.
        tick: Is told now and then which jobs are going on.
        gpus: GPUs that each takes, a share if below 1.

    Raises:
        ValueError: Ray cannot start, or there is no such GPU.
    """
    if not jobs:
        return
    with connected(None, None) as free:
        room = max(1, min(int(free["CPU"]), actors_that_fit(), len(jobs)))
        if gpus:
            room = min(room, actors_on_gpus(free["GPU"], gpus))
            if not room:
                raise ValueError(
                    f"fleet.gpus: a run with {gpus:g} GPUs must fit into those of the cluster, but {free['GPU']:g} are "
                    f"free; lower fleet.gpus, or set fleet.gpus=0"
                )
        made = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(Place)
        idle: list[ActorHandle[Place]] = []
        going: dict[ObjectRef[tuple[str, str]], _Call] = {}
        line, tries = deque(jobs), Counter[str]()
        try:
            while line or going:
                while line and len(going) < room:
                    handle = idle.pop() if idle else made.remote()
                    assert isinstance(handle, ActorHandle)
                    job = line.popleft()
                    tries[job] += 1
                    going[handle.make.remote(task, job)] = _Call(handle, job)
                tick([call.job for call in going.values()])
                done, _ = ray.wait(list(going), timeout=TICK_S)
                for reference in done:
                    call = going.pop(reference)
                    failure, place, short = _outcome(reference)
                    if not failure:
                        idle.append(call.handle)
                        yield Ended(call.job, tries=tries[call.job])
                        continue
                    ray.kill(call.handle)
                    if short:  # the others have more of it then
                        room = max(1, room - 1)
                    if tries[call.job] <= retries:
                        line.append(call.job)
                    else:
                        yield Ended(call.job, failure, place, tries[call.job])
        finally:
            for handle in [*idle, *(call.handle for call in going.values())]:
                ray.kill(handle)
            _gone(list(going.values()))


def _outcome(reference: "ObjectRef[tuple[str, str]]") -> tuple[str, str, bool]:
    """What was raised, where, and whether memory was short."""
    try:
        failure, place = ray.get(reference)
    except RayError as error:
        return died(error)
    return failure, place, short_of_memory(failure)


def died(error: RayError) -> tuple[str, str, bool]:
    """The same of a process that died. Its type says whether memory was short: any text of a death guesses at it."""
    return f"its process died: {cause(error)}", "", isinstance(error, OutOfMemoryError)


def _gone(calls: Sequence[_Call]) -> None:
    """Gives processes that were killed at work the time to go: their runs are to be free when this returns."""
    if calls:
        time.sleep(TICK_S)
