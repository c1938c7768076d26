"""Ray: its version, a local one, and a cluster with all its nodes."""

from collections.abc import Sequence

from fedtiny.doctor.finding import Finding, failure, ok

__all__ = ["cluster_nodes", "ray"]


def ray(address: str | None, thorough: bool) -> Finding:
    """Whether actors could start.

    Args:
        address: Of a cluster to join; None is a local Ray.
        thorough: Start the local Ray, or join the cluster; else the cluster's head is knocked at.
    """
    from fedtiny.fleets.boot import connected, found  # first: Ray reads the environment that it sets
    from fedtiny.fleets.nodes import version as installed

    version = installed()
    try:
        if thorough:
            with connected(address, 1 if address is None else None) as free:
                where = "a local Ray starts" if address is None else f"the cluster at {found(address)} can be joined"
                room = "" if address is None else f": {free['CPU']:g} CPUs and {free['GPU']:g} GPUs are free"
                return ok("Ray", f"{version}; {where}{room}")
        if address is not None:
            return ok("Ray", f"{version}; a cluster answers at {found(address)} (--thorough joins it)")
    except ValueError as error:
        text, _, way_out = str(error).removeprefix("fleet.address: ").removeprefix("fleet: ").partition("; ")
        return failure("Ray", f"{version}; {text}", way_out)
    return ok("Ray", f"{version} (--thorough starts one)")


def cluster_nodes(address: str, gpus: float) -> list[Finding]:
    """What each node of a cluster says of itself: in a line where all is well.

    Raises:
        ValueError: It cannot be joined.
    """
    from functools import partial

    from fedtiny.doctor.examine import of_a_node
    from fedtiny.fleets.nodes import each_node

    told: list[Finding] = []
    for name, found in each_node(address, partial(of_a_node, gpus)).items():
        if isinstance(found, str):
            mend = "install FedTiny there as here, in the same versions, or submit the run with: ray job submit"
            told.append(failure(f"node {name}", found, mend))
        else:
            told += _of_node(name, found)
    return told


def _of_node(name: str, found: Sequence[Finding]) -> list[Finding]:
    wrong = [Finding(f"node {name}: {x.what}", x.state, x.text, x.mend) for x in found if x.state != "ok"]
    return wrong or [ok(f"node {name}", "; ".join(x.text for x in found if x.what in ("python", "torch", "CPUs")))]
