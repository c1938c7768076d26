"""All checks, one after the other; none of them ends the others."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from fedtiny.doctor import hardware, software
from fedtiny.doctor.finding import Finding, failure
from fedtiny.doctor.rays import cluster_nodes, ray

__all__ = ["examine", "of_a_node"]

Check = Callable[[], Finding | list[Finding]]


def examine(address: str | None = None, gpus: float = 0.0, thorough: bool = False) -> Iterator[Finding]:
    """Looks at this machine, and at the cluster if there is one.

    Args:
        address: As `fleet.address`.
        gpus: As `fleet.gpus`.
        thorough: Build the engine, start or join Ray, and ask every node of the cluster as well.
    """
    here = 0.0 if address else gpus  # a cluster's GPUs need not be here
    checks: list[tuple[str, Check]] = [
        *_software(thorough),
        *_hardware(here),
        ("disks", hardware.disks),
        ("Ray", partial(ray, address, thorough)),
        ("W&B", software.tracking),
    ]
    joined = True
    for found in _made(checks):
        joined &= (found.what, found.state) != ("Ray", "failure")
        yield found
    if thorough and address is not None and joined:
        yield from _made([("nodes", partial(cluster_nodes, address, gpus))])


def of_a_node(gpus: float = 0.0) -> list[Finding]:
    """What matters of a node that clients run on; called there.

    Args:
        gpus: As `fleet.gpus`; a node without any is no failure, since actors go where there are some.
    """
    found = list(_made([*_software(False), *_hardware(0.0)]))
    temporary = [x for x in hardware.disks() if x.what == "temporary files"]
    return [*found, *temporary]


def _software(thorough: bool) -> Sequence[tuple[str, Check]]:
    return (
        ("python", software.python),
        ("libraries", software.libraries),
        ("torch", software.torch_pair),
        ("compiler", partial(software.compiler, thorough)),
    )


def _hardware(gpus: float) -> Sequence[tuple[str, Check]]:
    return (
        ("CPUs", hardware.cpus),
        ("memory", hardware.memory),
        ("GPU", partial(hardware.gpu, gpus)),
        ("shared memory", hardware.shared_memory),
        ("open files", hardware.open_files),
    )


def _made(checks: Sequence[tuple[str, Check]]) -> Iterator[Finding]:
    for what, check in checks:
        try:
            found = check()
        except Exception as error:  # half an installation may raise anything
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            found = failure(what, f"cannot be looked at ({why})", "python -m pip install -r requirements.txt")
        yield from found if isinstance(found, list) else [found]
