"""A Ray to start actors on: a quiet local one, begun in the background, or one that is there already.

This file imports neither PyTorch nor anything that does: Ray's processes get ready while those imports run.
"""

import logging
import math
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fedtiny.fleets.family import end, family
from fedtiny.fleets.knock import absence
from fedtiny.fleets.limits import usable_cpus
from fedtiny.fleets.scratch import Scratch, clear_dead
from fedtiny.termination import handler_kept

# Before Ray's import, which reads them. Ray's workers are at niceness 15 otherwise, and starve beside anything else
# that computes. Without the fourth, a SIGTERM is Ray's: it prints the stack and ends the process. The last keeps every
# port of a local Ray on the loopback interface: its name speaks of two other systems, but what it does is to take
# 127.0.0.1 as the address of this node.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

__all__ = ["booting", "connected", "found"]

END_S = 5.0
"""Longest time that a local Ray's processes have to end by themselves, which they do when the others are gone."""


class _LocalRay:
    """A Ray of our own, on the loopback interface; its files lie in a folder that goes with it.

    Its thread lives as long as it does: Linux ends Ray's processes with the thread that started them.
    """

    def __init__(self, cpus: float | None) -> None:
        self._cpus = cpus
        self._error: BaseException | None = None
        self._there, self._over = threading.Event(), threading.Event()
        self._scratch = Scratch()
        self._thread = threading.Thread(target=self._live, name="ray", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        import ray

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ray.init(
                    address="local",
                    num_cpus=usable_cpus() if self._cpus is None else max(1, math.ceil(self._cpus - 1e-6)),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=str(self._scratch.path),
                )
        except BaseException as error:
            self._error = error
        self._there.set()
        with _silent():
            clear_dead()
            self._over.wait()
            theirs = family(str(self._scratch.path))
            ray.shutdown()
            end(theirs, END_S)

    def join(self) -> None:
        """Returns once it is there.

        Raises:
            ValueError: It could not start; says why, and what does without it.
        """
        self._there.wait()
        if self._error is not None:
            reason = f"{type(self._error).__name__}: {' '.join(str(self._error).split())}"
            raise ValueError(f"fleet: Ray cannot start ({reason}); fleet.name=inline needs none") from self._error

    def stop(self) -> None:
        """Ends it, and removes its files."""
        self._over.set()
        self._thread.join()
        self._scratch.close()


_ours: _LocalRay | None = None


@contextmanager
def booting(cpus: float | None) -> Iterator[None]:
    """Meanwhile a local Ray gets ready for `connected`, unless there is one already; it ends with the context.

    Args:
        cpus: CPUs it promises, more than there are if need be; None is what is ours of the machine.
    """
    global _ours
    if _ours is not None:
        yield
        return
    _ours = _LocalRay(cpus)
    try:
        yield
    finally:
        _ours.stop()
        _ours = None


def found(address: str) -> str:
    """HOST:PORT of the cluster meant, whose head has answered a knock.

    Args:
        address: HOST:PORT, or `auto`: what $RAY_ADDRESS says, else the cluster that this machine is a node of.

    Raises:
        ValueError: There is none.
    """
    there, told = address, address
    if address == "auto":
        from ray._private.services import get_ray_address_from_environment

        named = os.environ.get("RAY_ADDRESS", "")
        told = f"auto, $RAY_ADDRESS={named}" if named else "auto"
        try:
            there = str(get_ray_address_from_environment(address, None))
        except ConnectionError:
            why = "this machine is no node of one, and $RAY_ADDRESS is not set"
            raise ValueError(_nobody(told, why)) from None
        told = told if named else f"auto, {there}"
    if why := absence(there):
        raise ValueError(_nobody(told, why))
    return there


def _nobody(told: str, why: str) -> str:
    return f"fleet.address: there is no Ray at {told} ({why}); start one with: ray start --head"


@contextmanager
def connected(address: str | None, cpus: float | None) -> Iterator[dict[str, float]]:
    """A Ray to start actors on; yields what is free of it, `CPU` and `GPU`.

    One that this process is connected to already is used and left alone, if the address is not another's.

    Args:
        address: Of a cluster to join, as in `found`; None is a local Ray.
        cpus: As in `booting`.

    Raises:
        ValueError: There is no such cluster.
    """
    import ray

    if (_ours is None or address is not None) and ray.is_initialized():
        if address is not None and not _is_this(address):
            raise ValueError(
                f"fleet.address: this process is connected to another Ray already, got {address}; leave the address "
                f"out to use that one, or call ray.shutdown() first"
            )
        yield _free()
    elif address is not None:
        there = found(address)
        try:
            # As it was given: a token (~/.ray/auth_token) is shown to whoever `auto` finds, not to any address named.
            with handler_kept():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"fleet.address: the Ray at {there} cannot be joined ({reason}); it must be of this version of Ray and "
                f"Python, and if it asks for a token, set RAY_AUTH_MODE=token and have it in ~/.ray/auth_token"
            ) from error
        try:
            with _silent():
                yield _free()
        finally:
            ray.shutdown()
    else:
        with booting(cpus):
            assert _ours is not None
            _ours.join()
            yield _free()


@contextmanager
def _silent() -> Iterator[None]:
    """Meanwhile Ray prints no paragraph when one of its processes dies: `log_to_driver=False` does not cover these.

    What is to be told of it goes into the client's reply.
    """
    from ray._private import worker

    # Not promised by Ray: where it is called otherwise one day, the paragraph is back, and nothing else.
    printing = vars(worker).get("print_to_stdstream")
    vars(worker)["print_to_stdstream"] = lambda data, ignore_prefix=False: None
    try:
        yield
    finally:
        vars(worker)["print_to_stdstream"] = printing


def _is_this(address: str) -> bool:
    """Whether that is the cluster that this process is connected to."""
    import ray

    return address == "auto" or address == str(ray.get_runtime_context().gcs_address)


def _reserved() -> dict[str, float] | None:
    """What is left of the placement group that this process is in, if it is one whose actors must be in it too."""
    import ray

    group = ray.util.get_current_placement_group()
    if group is None:
        return None
    bundles = group.bundle_specs
    mine = ray.get_runtime_context().get_assigned_resources()
    return {
        kind: sum(float(bundle.get(kind, 0.0)) for bundle in bundles) - float(mine.get(kind, 0.0))
        for kind in ("CPU", "GPU")
    }


def _free() -> dict[str, float]:
    import ray

    if (reserved := _reserved()) is not None:
        return reserved
    # The cluster's books lag behind by a second: what actors of a fleet that just closed had is counted late.
    before: dict[str, float] = {}
    for _ in range(20):
        told: dict[str, float] = ray.available_resources()
        free = {kind: float(told.get(kind, 0.0)) for kind in ("CPU", "GPU")}
        has: dict[str, float] = ray.cluster_resources()
        if free == before or all(count == has.get(kind, 0.0) for kind, count in free.items()):
            break
        before = free
        time.sleep(0.6)
    return free
