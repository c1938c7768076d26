"""Python, the libraries, the compiler, W&B."""

import importlib.metadata
import os
import platform
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from fedtiny.doctor.finding import Finding, failure, ok, warning

__all__ = ["compiler", "libraries", "python", "torch_pair", "tracking"]

_LEAST = (3, 11)
_INSTALL = "python -m pip install -r requirements.txt"


def python() -> Finding:
    """The interpreter's version."""
    if sys.version_info[:2] < _LEAST:
        return failure("python", platform.python_version(), "use Python 3.11 or newer: make setup PYTHON=python3.11")
    return ok("python", f"{platform.python_version()} at {sys.executable}")


def libraries(stated: Sequence[str] | None = None) -> Finding:
    """Whether everything that is needed is installed and new enough.

    Args:
        stated: Requirements in the form of PEP 508; None is what FedTiny needs.
    """
    from packaging.requirements import Requirement

    wrong = []
    read = [Requirement(text) for text in (_needed() if stated is None else stated)]
    needed = [x for x in read if x.marker is None or x.marker.evaluate({"extra": ""})]
    for requirement in needed:
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"no {requirement.name}")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} instead of {requirement.specifier}")
    if wrong:
        return failure("libraries", ", ".join(wrong), _INSTALL)
    return ok("libraries", f"all {len(needed)} are there and new enough")


def _needed() -> list[str]:
    """Requirements as the checkout states them, or as they were when FedTiny was installed."""
    stated = Path(__file__).parents[2] / "pyproject.toml"
    if stated.is_file():
        told: list[str] = tomllib.loads(stated.read_text(encoding="utf-8"))["project"]["dependencies"]
        return told
    return importlib.metadata.requires("fedtiny") or []


def torch_pair() -> Finding:
    """PyTorch and torchvision, which are built for each other."""
    import torch

    mend = f"install both anew, as a pair: {_INSTALL}"
    pair = f"torch {torch.__version__}, torchvision {importlib.metadata.version('torchvision')}"
    try:
        import torchvision  # registers its operators with this torch, if they fit

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return failure("torch", f"{pair} do not fit ({' '.join(str(error).split())})", mend)
    return ok("torch", pair)


def compiler(thorough: bool = False) -> Finding:
    """What builds the sparse engine.

    Args:
        thorough: Build it; else a compiler and a built engine are looked for.
    """
    import torch

    from fedtiny.sparse.engine.kernels import EngineUnavailable, compiles, is_built, kernels

    try:
        if thorough or is_built(torch.float32):
            kernels(torch.float32)
            return ok("compiler", "the sparse engine is built, and loads")
        name = compiles()
    except EngineUnavailable as error:
        return warning(
            "compiler", f"{error}", "mend it, or runs go on dense kernels, several times slower at 1 % density"
        )
    return ok("compiler", f"{name}; the sparse engine is built at its first use")


def tracking() -> Finding:
    """Where W&B's logs will go; no network is needed to tell."""
    from fedtiny.track.wandb import logged_in

    said = os.environ.get("WANDB_MODE", "online")
    if said != "online":
        return ok("W&B", f"{said}, as $WANDB_MODE says")
    if not logged_in():
        return ok("W&B", "not logged in: runs are logged offline, for `wandb sync`; `wandb login` for online")
    return ok("W&B", "logged in: runs are logged online, and offline where the network is down")
