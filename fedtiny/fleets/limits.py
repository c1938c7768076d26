"""What of this machine is ours: in a container or a Slurm job it is less than the machine has."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import joblib

__all__ = ["ACTOR_BYTES", "actors_on_gpus", "actors_that_fit", "usable_bytes", "usable_cpus"]

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
    for folder, most, used in _cgroups(root):
        limit, taken = _lines(folder / most)[:1], _lines(folder / used)[:1]
        if limit and taken and limit[0].isdigit():
            files = [line.split()[1] for line in _lines(folder / "memory.stat") if _CACHE.match(line)]
            left.append(max(0, int(limit[0]) - int(taken[0]) + max(map(int, files), default=0)))
    for name, times in (("SLURM_MEM_PER_NODE", 1), ("SLURM_MEM_PER_CPU", usable_cpus())):  # megabytes
        told = os.environ.get(name, "")
        if told.isdigit():
            left.append(1_000_000 * int(told) * times)
    return min(left, default=None)


_CACHE = re.compile(r"(total_)?inactive_file \d")
"""Pages of files that were read: they count as taken, and make room for whoever asks."""


def _cgroups(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Folders of our cgroup and of those around it, each with the names of its limit and of its use.

    A limit may be set at any of them: a container's own is mostly at the top, a Slurm step's or a service's is not.
    """
    mine = {kinds: path for _, kinds, path in (x.split(":", 2) for x in _lines(root / "proc/self/cgroup"))}
    cgroup = root / "sys/fs/cgroup"
    for top, most, used, path in (
        (cgroup, "memory.max", "memory.current", mine.get("", "/")),
        (
            cgroup / "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            next((path for kinds, path in mine.items() if "memory" in kinds.split(",")), "/"),
        ),
    ):
        parts = path.strip("/").split("/")
        if ".." in parts:  # outside what we see
            parts = []
        for depth in range(len(parts) + 1):
            yield top.joinpath(*parts[:depth]), most, used


def actors_that_fit() -> int:
    """Actors that the memory has room for, at least 1."""
    left = usable_bytes()
    return 1_000_000 if left is None else max(1, left // ACTOR_BYTES)


def actors_on_gpus(free: float, gpus: float) -> int:
    """Actors that free GPUs have room for, each with `gpus` > 0 of them: a share is of one GPU, never of two."""
    if gpus >= 1:
        return int(free / gpus + 1e-6)
    whole = int(free + 1e-6)
    return whole * int(1 / gpus + 1e-6) + int(max(0.0, free - whole) / gpus + 1e-6)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
