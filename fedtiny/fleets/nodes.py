"""A question to every node of a cluster, answered there."""

import time
from collections.abc import Callable
from typing import TypeVar

import ray
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedtiny.fleets.boot import connected
from fedtiny.fleets.death import cause

__all__ = ["each_node", "version"]

Answer = TypeVar("Answer")


def each_node(address: str, task: Callable[[], Answer], patience_s: float = 60.0) -> "dict[str, Answer | str]":
    """Has every living node do the task at the same time.

    Args:
        address: As in `connected`.
        task: Importable on the nodes, or they say that it is not; gives no string.
        patience_s: Seconds that all have together.

    Returns:
        Name and address of each node -> its answer, or why there is none.

    Raises:
        ValueError: There is no such cluster.
    """
    with connected(address, None):
        asked = ray.remote(num_cpus=0, max_retries=0)(lambda: task())
        going: dict[str, ObjectRef[Answer]] = {}
        for node in ray.nodes():
            if node["Alive"]:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}:{node['NodeManagerPort']})"
                going[name] = asked.options(scheduling_strategy=there).remote()
        until, told = time.monotonic() + patience_s, {}
        for name, reference in going.items():
            try:
                answer: Answer | str = ray.get(reference, timeout=max(0.1, until - time.monotonic()))
            except GetTimeoutError:
                answer = f"no answer within {patience_s:g} s"
            except RayError as error:
                answer = cause(error)
            told[name] = answer
        return told


def version() -> str:
    """Ray's own, not what the package index calls it."""
    return str(ray.__version__)
