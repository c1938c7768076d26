"""What of this machine is ours: in a container or a Slurm job it is less than the machine has."""

import os
from pathlib import Path

import joblib

__all__ = ["actors_that_fit", "usable_bytes", "usable_cpus"]

ACTOR_BYTES = 800_000_000
"""Memory of an actor beside its network: Python, Ray, PyTorch and Lightning, most of it its own."""


def usable_cpus() -> int:
    """CPUs that the kernel's affinity mask, the cgroup's quota and Slurm leave us, at least 1."""
    told = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or ""
    cpus = int(joblib.cpu_count())
    return max(1, min(cpus, int(told)) if told.isdigit() else cpus)


def usable_bytes(root: Path = Path("/")) -> int | None:
    """Memory that may still be taken: of the machine, the cgroup and Slurm the least; None if nothing tells.

    Args:
        root: Where `proc` and `sys` are.
    """
    left = []
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            left.append(1024 * int(line.split()[1]))
    cgroup = root / "sys/fs/cgroup"
    for most, used in (
        (cgroup / "memory.max", cgroup / "memory.current"),
        (cgroup / "memory/memory.limit_in_bytes", cgroup / "memory/memory.usage_in_bytes"),
    ):
        limit, taken = _lines(most)[:1], _lines(used)[:1]
        if limit and taken and limit[0].isdigit():
            left.append(max(0, int(limit[0]) - int(taken[0])))
    slurm = os.environ.get("SLURM_MEM_PER_NODE", "")  # megabytes
    if slurm.isdigit():
        left.append(1_000_000 * int(slurm))
    return min(left, default=None)


def actors_that_fit() -> int:
    """Actors that the memory has room for, at least 1."""
    left = usable_bytes()
    return 1_000_000 if left is None else max(1, left // ACTOR_BYTES)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
