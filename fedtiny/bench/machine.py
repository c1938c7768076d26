"""Where a benchmark is run, and on what network."""

import os
import platform
from pathlib import Path

import torch
from pydantic import TypeAdapter

from fedtiny.bench.subject import Subject
from fedtiny.models.zoo import AnyModel
from fedtiny.sparse.network import Network, Prunable

__all__ = ["machine", "network_of"]


def network_of(subject: Subject) -> Network:
    """The freshly initialised network.

    Raises:
        ValidationError: There is no such model.
    """
    named = {"name": subject.model} | ({} if subject.width is None else {"width": subject.width})
    model: AnyModel = TypeAdapter(AnyModel).validate_python(named)
    shape = (subject.channels, subject.size, subject.size)
    return Network.of(model.build(subject.channels, subject.classes, 0), shape, Prunable())


def machine() -> dict[str, object]:
    """What figures depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return {
        "cpu": names[0] if names else platform.processor(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "engine_flags": os.environ.get("FEDTINY_ENGINE_FLAGS", ""),
    }
