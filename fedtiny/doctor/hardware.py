"""CPUs, memory, GPUs, disks, and what the system lets a process have of them."""

import os
import platform
import shutil
import tempfile
from pathlib import Path

from fedtiny.cache import cache_folder
from fedtiny.doctor.finding import Finding, failure, ok, warning

__all__ = ["cpus", "disk", "disks", "gpu", "memory", "open_files", "shared_memory"]

LEAST_SHARED_BYTES = 1_000_000_000
"""Shared memory below which Ray's object store goes to the disk, or is small for a data set such as CIFAR-10."""

LEAST_BYTES, LITTLE_BYTES = 50_000_000, 2_000_000_000
"""Room on a disk below which a run fails, and below which a few runs may."""

LEAST_FILES = 4096
"""Open files that Ray asks for: it takes the hard limit, where the soft one is lower."""


def cpus() -> Finding:
    """CPUs that are ours."""
    from fedtiny.fleets.limits import usable_cpus

    ours, all_of_them = usable_cpus(), os.cpu_count() or 1
    of = "" if ours == all_of_them else f" of {all_of_them}: an affinity mask, a cgroup or Slurm holds the rest"
    return ok("CPUs", f"{ours}{of}; {platform.machine()}")


def memory() -> Finding:
    """Memory that may still be taken, in actors."""
    from fedtiny.fleets.limits import ACTOR_BYTES, actors_that_fit, usable_bytes

    free = usable_bytes()
    if free is None:
        return ok("memory", "this system does not tell")
    text = f"{_gb(free)} free: room for {actors_that_fit()} actors"
    if free < ACTOR_BYTES:
        return failure("memory", f"{_gb(free)} free, and an actor needs {_gb(ACTOR_BYTES)}", "end what else runs here")
    if free < 3 * ACTOR_BYTES:
        return warning("memory", text, "end what else runs here, or set fleet.name=inline")
    return ok("memory", text)


def gpu(gpus: float = 0.0) -> Finding:
    """What PyTorch sees of CUDA.

    Args:
        gpus: What `fleet.gpus` asks for.
    """
    import torch

    if torch.cuda.is_available():
        seen = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
        text = ", ".join(f"{x.name} ({_gb(x.total_memory)})" for x in seen)
        return ok("GPU", text if gpus else f"{text}; unused unless fleet.gpus is set")
    driver = Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None
    why = f"torch {torch.__version__} sees none"
    if gpus:
        return failure("GPU", f"{why}, and fleet.gpus={gpus:g} asks for one", "set fleet.gpus=0, or mend the driver")
    if driver:
        return warning("GPU", f"{why}, though NVIDIA's driver is here", "compare torch.version.cuda and nvidia-smi")
    return ok("GPU", "none: clients train on CPUs")


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """Where the data set lies once a node.

    Args:
        folder: Where this system has it.
    """
    if not folder.is_dir():
        return ok("shared memory", f"there is no {folder}; Ray uses files")
    size = shutil.disk_usage(folder)
    text = f"{_gb(size.free)} of {_gb(size.total)} free in {folder}"
    if size.free < LEAST_SHARED_BYTES:
        return warning("shared memory", text, "give it more (docker run --shm-size=4g), or Ray goes by way of the disk")
    return ok("shared memory", text)


def disk(what: str, folder: Path) -> Finding:
    """Whether something can be written below a folder, and how much.

    Args:
        what: What the folder is for.
        folder: It need not be there yet.
    """
    there = next((x for x in (folder, *folder.absolute().parents) if x.exists()), Path("/"))
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
            file.flush()
        free = shutil.disk_usage(there).free
    except OSError as error:
        why = error.strerror or str(error)
        return failure(what, f"{folder} cannot be written ({why})", _elsewhere(what))
    text = f"{_gb(free)} free in {folder}"
    if free < LEAST_BYTES:
        return failure(what, text, f"make room, or {_elsewhere(what)}")
    if free < LITTLE_BYTES:
        return warning(what, text, f"make room, or {_elsewhere(what)}")
    return ok(what, text)


def disks() -> list[Finding]:
    """The three places that a run writes to."""
    places = {"runs": Path("runs"), "temporary files": Path(tempfile.gettempdir()), "cache": cache_folder()}
    return [disk(what, folder) for what, folder in places.items()]


def _elsewhere(what: str) -> str:
    return {"runs": "name another folder with out=DIR", "cache": "set $FEDTINY_CACHE to another folder"}.get(
        what, "set $TMPDIR to another folder"
    )


def open_files() -> Finding:
    """How many files a process may have open; Ray's have many connections."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < LEAST_FILES:
        return warning(
            "open files", f"at most {hard}", f"raise the limit to {LEAST_FILES} or more (ulimit -n, or Docker)"
        )
    return ok("open files", f"{soft}, at most {'any number' if hard < 0 else hard}")


def _gb(count: float) -> str:
    return f"{count / 1e9:.3g} GB"
